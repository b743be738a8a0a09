"""A raster's identity by content: neither path nor time of change enters, so that a copy is the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

from crater_ray_mosaic.address import container

WHOLE = 64 << 20  # a file up to this size is hashed whole
_SAMPLES, _LENGTH = 256, 64 << 10


def fingerprint(path: Path, beside: Iterable[str | Path] = ()) -> str:
    """16 hex digits of a file's size and bytes: all of them up to 64 MiB, else 256 samples, both ends too.

    beside: what GDAL reads with it (a VRT's tiles, overviews), by name, size and samples of its bytes: a tile
    that is replaced by another of its size is noticed. Of a GDAL name the file that it reads from counts,
    such as an archive; of an address the name alone. Raises OSError.
    """
    digest = xxhash.xxh3_64()
    own = _file(path)
    if own is None:
        digest.update(f"{path}|".encode())
    else:
        _add(digest, own, WHOLE, _SAMPLES)
    files = {file for name in beside if (file := _file(Path(name))) and file.is_file()}
    others = [file for file in sorted(files) if own is None or file.name != own.name]
    each = max(4, _SAMPLES // max(1, len(others)))
    for other in others:
        digest.update(f"{other.name}|".encode())
        _add(digest, other, each * _LENGTH, each)
    return digest.hexdigest()


def _file(path: Path) -> Path | None:
    """The file itself, or that a name of GDAL's reads from; None of an address."""
    if path.exists():
        return path
    if found := container(path):
        return found
    return None if ":" in str(path) or str(path).startswith("/vsi") else path


def _add(digest: xxhash.xxh3_64, path: Path, whole: int, samples: int) -> None:
    """The size and the bytes of a file: all of them up to `whole`, else so many samples."""
    size = path.stat().st_size
    digest.update(f"{size}|".encode())
    with path.open("rb") as file:
        if size <= whole:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return
        for number in range(samples):
            file.seek((size - _LENGTH) * number // (samples - 1))
            digest.update(file.read(_LENGTH))
