"""A raster's identity by content: neither path nor time of change enters, so that a copy is the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

WHOLE = 64 << 20  # a file up to this size is hashed whole
_SAMPLES, _LENGTH = 256, 64 << 10


def fingerprint(path: Path, beside: Iterable[str | Path] = ()) -> str:
    """16 hex digits of a file's size and bytes: all of them up to 64 MiB, else 256 samples, both ends too.

    beside: what GDAL reads with it (a VRT's tiles, overviews), by name, size and samples of its bytes: a tile
    that is replaced by another of its size is noticed. Raises OSError.
    """
    digest = xxhash.xxh3_64()
    _add(digest, path, WHOLE, _SAMPLES)
    others = [one for one in sorted(Path(name) for name in beside) if one.name != path.name and one.is_file()]
    each = max(4, _SAMPLES // max(1, len(others)))
    for other in others:
        digest.update(f"{other.name}|".encode())
        _add(digest, other, each * _LENGTH, each)
    return digest.hexdigest()


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
