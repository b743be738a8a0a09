"""The text of a table's file, whatever its encoding; what is no text is refused without its bytes."""

from __future__ import annotations

import re

from crater_ray.errors import ReaderError

_MAGIC = {
    b"SQLite format 3": "an SQLite file; name it .gpkg if it is a GeoPackage",
    b"PK\x03\x04": "a ZIP archive or an office document; unpack it, or name it .xlsx, .ods or .zip",
    b"\xd0\xcf\x11\xe0": "an old office document; save it as .xlsx or CSV",
    b"%PDF": "a PDF; export the table as CSV",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file",
    b"CDF\x01": "a NetCDF file",
    b"SIMPLE  =": "a FITS file",
}


def decoded(raw: bytes, file: str) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 with or without its mark, else Windows' Latin-1.

    Raises ReaderError, without the file's bytes, for what is no text.
    """
    magic = next((what for head, what in _MAGIC.items() if raw.startswith(head)), None)
    if magic:
        raise ReaderError(f"{file} is {magic}; it is no table of text")
    for mark, encoding in (
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
        (b"\xef\xbb\xbf", "utf-8-sig"),
    ):
        if raw.startswith(mark):
            return _checked(raw.decode(encoding, "replace"), file)
    head = raw[:4096]
    if b"\x00" in head:  # every other byte, in UTF-16 without its mark
        low, high = head[1::2].count(0), head[::2].count(0)
        if max(low, high) > 0.8 * len(head) / 2 and min(low, high) == 0:
            return _checked(raw.decode("utf-16-le" if low > high else "utf-16-be", "replace"), file)
        raise ReaderError(f"{file} is a binary file, and no table of text")
    for encoding in ("utf-8", "cp1252"):
        try:
            return _checked(raw.decode(encoding), file)
        except UnicodeDecodeError:
            continue
    return _checked(raw.decode("latin-1"), file)


def _checked(text: str, file: str) -> str:
    """With \\n for line ends, without an end-of-file mark."""
    if re.search("[\x00-\x08\x0e-\x19\x1b-\x1f]", text[:100_000]):
        raise ReaderError(f"{file} is a binary file, and no table of text")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a")
