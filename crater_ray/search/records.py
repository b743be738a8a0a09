"""What codecs have in common: checks of tokens and of codes, and which tokens are present."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Record(Protocol):
    """What is asked of a codec here."""

    @property
    def name(self) -> str: ...

    def record_bytes(self, k: int, dim: int) -> int: ...


def finite(tokens: ArrayLike) -> Floats:
    """Float32 (N, K, D), contiguous. Raises ValueError for another shape or what is not finite."""
    values = np.ascontiguousarray(tokens, dtype=np.float32)
    if values.ndim != 3:
        raise ValueError(f"tokens are {values.shape}; a codec takes (images, tokens, dimensions)")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(broken):
        raise ValueError(
            f"tokens of image {broken[0]} are not finite ({len(broken)} such images of {len(values)}); "
            "leave them out"
        )
    return values


def checked(codec: Record, codes: Bytes, k: int, dim: int) -> None:
    """Raises ValueError unless the codes are (N, record_bytes) uint8."""
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != codec.record_bytes(k, dim):
        raise ValueError(
            f"codes are {codes.shape} {codes.dtype}; {codec.name} at k = {k}, dim = {dim} keeps "
            f"(images, {codec.record_bytes(k, dim)}) uint8"
        )


def present(codes: Bytes, k: int) -> NDArray[np.bool_] | None:
    """(N, K) which tokens of codes (N, record_bytes) are present, None: all. Zero bytes are absent."""
    width = codes.shape[1] // k
    whole = next(size for size in (8, 4, 2, 1) if width % size == 0)
    words = codes.reshape(len(codes), k, width).view(f"<u{whole}")
    first = np.ascontiguousarray(words[:, :, 0])
    if first.all():  # which settles it nearly always: the rest is not read
        return None
    found: NDArray[np.bool_] = first != 0
    unsettled = ~found
    found[unsettled] = words[unsettled].any(axis=1)
    return None if found.all() else found
