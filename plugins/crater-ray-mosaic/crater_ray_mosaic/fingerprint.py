"""A raster's identity by content: neither path nor time of change enters, so that a copy is the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

WHOLE = 64 << 20  # a file up to this size is hashed whole
_SAMPLES, _LENGTH = 256, 64 << 10


def fingerprint(path: Path, beside: Iterable[str | Path] = ()) -> str:
    """16 hex digits of a file's size and bytes: all of them up to 64 MiB, else 256 samples, both ends too.

    beside: what GDAL reads with it (a VRT's tiles, overviews); their names and sizes count. Raises OSError.
    """
    digest = xxhash.xxh3_64()
    size = path.stat().st_size
    digest.update(f"{size}|".encode())
    with path.open("rb") as file:
        if size <= WHOLE:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        else:
            for number in range(_SAMPLES):
                file.seek((size - _LENGTH) * number // (_SAMPLES - 1))
                digest.update(file.read(_LENGTH))
    for other in sorted(Path(name) for name in beside):
        if other.name != path.name and other.is_file():
            digest.update(f"{other.name}|{other.stat().st_size}|".encode())
    return digest.hexdigest()
