"""How instance tokens are kept: a closed set of codecs, float32 tokens in, bytes out, and back.

A token of zeros is absent: it stands for nothing. Every codec keeps it as zero bytes, gives it back as zeros,
and computes scales without it. A present token never has zero bytes (`present`),
unless it is so much shorter than the longest of its image that it rounds to zeros.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
TURNS = 2  # codes a token that may be rounded the other way
EVEN = np.float32(0.1)  # weight of all other directions together beside the token's own
CHUNK = 8  # images rounded at a time: they stay in the cache
STEPS: Final = {4: 0.335, 2: 0.996, 1: 1.596}  # of the uniform quantiser of least error, of a unit normal


class Codec(Protocol):
    """One way to keep the K tokens of an image: a record of bytes, and `scales` float32 numbers beside it."""

    @property
    def name(self) -> str: ...

    @property
    def algorithm_version(self) -> int:
        """Raised only when the bytes change that tokens are kept as; an index needs the one that made it."""

    @property
    def scales(self) -> int:
        """Float32 numbers an image; the first multiplies its whole operand."""

    @property
    def integers(self) -> bool:
        """Whether the operand is int8, not float32."""

    def record_bytes(self, k: int, dim: int) -> int:
        """Bytes of one image's codes."""

    def encode(self, tokens: ArrayLike) -> tuple[Bytes, Floats]:
        """Codes (N, record_bytes) and scales (N, s) of tokens (N, K, D). Raises ValueError unless finite."""

    def decode(self, codes: Bytes, scales: Floats, k: int, dim: int) -> Floats:
        """Tokens (N, K, D), as near as the codec keeps them."""

    def operand(self, codes: Bytes, k: int, dim: int) -> NDArray[Any]:
        """(N * K, D) int8 or float32, what the kernel multiplies; the scale is applied to its scores."""


class Int8:
    """One byte a dimension and one scale an image, its largest absolute value / 127.

    Rounding keeps each token's product with itself: a query token that matches a gallery token points much
    the way it does, so that is the direction whose error counts, and where many query tokens match one
    gallery token it does not average out. Two codes a token, rounded the other way, halve the error among
    near neighbours.
    """

    name = "int8"
    algorithm_version = 1
    scales = 1
    integers = True

    def record_bytes(self, k: int, dim: int) -> int:
        return k * dim

    def encode(self, tokens: ArrayLike) -> tuple[Bytes, Floats]:
        values = finite(tokens)
        n, k, dim = values.shape
        scales = (np.abs(values).max(axis=(1, 2), initial=0.0) / 127).astype(np.float32)
        steps = np.where(scales > 0, scales, np.float32(1))[:, None, None]  # an image of zeros stays zeros
        numbers = _numbers(values).astype(np.float32)[:, None, None]
        codes = np.empty((n, k, dim), np.int8)
        for start in range(0, n, CHUNK):
            some = slice(start, start + CHUNK)
            codes[some] = _rounded(values[some], steps[some], numbers[some])
        return codes.reshape(n, k * dim).view(np.uint8), scales[:, None]

    def decode(self, codes: Bytes, scales: Floats, k: int, dim: int) -> Floats:
        integers = self.operand(codes, k, dim).reshape(len(codes), k, dim)
        return integers.astype(np.float32) * np.asarray(scales, np.float32)[:, :1, None]

    def operand(self, codes: Bytes, k: int, dim: int) -> NDArray[Any]:
        return _records(self, codes, k, dim).view(np.int8).reshape(-1, dim)


class Fp16:
    """Two bytes a dimension; scored in float32, the reference."""

    name = "fp16"
    algorithm_version = 1
    scales = 0
    integers = False

    def record_bytes(self, k: int, dim: int) -> int:
        return 2 * k * dim

    def encode(self, tokens: ArrayLike) -> tuple[Bytes, Floats]:
        values = finite(tokens)
        n, k, dim = values.shape
        largest = float(np.abs(values).max(initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            raise ValueError(f"tokens reach {largest:g}, which float16 cannot hold; give unit rows")
        codes = (values + np.float32(0)).astype("<f2").reshape(n, k * dim)  # -0.0 has a bit that is not zero
        return codes.view(np.uint8).reshape(n, self.record_bytes(k, dim)), np.empty((n, 0), np.float32)

    def decode(self, codes: Bytes, scales: Floats, k: int, dim: int) -> Floats:
        decoded: Floats = self.operand(codes, k, dim).reshape(len(codes), k, dim)
        return decoded

    def operand(self, codes: Bytes, k: int, dim: int) -> NDArray[Any]:
        # float16 is for keeping: a float16 matmul on a CPU is an order slower than float32
        return _records(self, codes, k, dim).view("<f2").astype(np.float32).reshape(-1, dim)


class Packed:
    """1, 2 or 4 bits a dimension and one scale an image: odd integers, so that no level is lost on zero.

    A step is the best one for normal values of the root mean square of the image's present tokens. Tokens
    that are evened out (`whitened_tokens`) are like that: their errors are many, small and independent, and a
    score averages them. Plain ViT tokens are not: most of what they are is what all of them share.

    The lowest level is zero bits, and all zero bits are an absent token. A present token whose every
    dimension is of the lowest level has one raised: one that only fills up its last byte, where there is one,
    or else its largest.
    """

    algorithm_version = 1
    scales = 1
    integers = True

    def __init__(self, bits: int) -> None:
        self.name = f"int{bits}"
        self.bits = bits
        self._word = np.dtype("<u2" if bits == 4 else "u1")  # looked up at once
        values = np.arange(1 << (8 * self._word.itemsize))[:, None]
        shifts = np.arange(0, 8 * self._word.itemsize, bits)
        levels = (values >> shifts) & self._top
        self._each = len(shifts)  # dimensions of a word
        self._table = (2 * levels - self._top).astype(np.int8).view(f"<i{self._each}")[:, 0].copy()

    @property
    def _top(self) -> int:
        return (1 << self.bits) - 1

    def record_bytes(self, k: int, dim: int) -> int:
        return k * self._words(dim) * self._word.itemsize

    def encode(self, tokens: ArrayLike) -> tuple[Bytes, Floats]:
        values = finite(tokens)
        n, k, dim = values.shape
        squares = np.square(values, dtype=np.float64).sum(axis=(1, 2))
        spread = np.sqrt(squares / np.maximum(_numbers(values), 1))
        scales = (spread * (STEPS[self.bits] / 2)).astype(np.float32)
        halves = np.where(scales > 0, scales, np.float32(1))[:, None, None]
        levels = np.zeros((n, k, self._words(dim) * self._each), np.uint8)
        for start in range(0, n, CHUNK):
            some = slice(start, start + CHUNK)
            found = np.floor(values[some] / (2 * halves[some])) + (self._top + 1) // 2
            levels[some, :, :dim] = np.clip(found, 0, self._top)
        there = values.any(axis=2)
        levels[~there] = 0
        for image, token in np.argwhere(there & ~levels.any(axis=2)):
            filled = dim < levels.shape[2]
            levels[image, token, dim if filled else values[image, token].argmax()] = 1
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)
        packed = np.bitwise_or.reduce(
            levels.reshape(n, k, levels.shape[2] // len(shifts), len(shifts)) << shifts, axis=3
        )
        return packed.reshape(n, self.record_bytes(k, dim)), scales[:, None]

    def decode(self, codes: Bytes, scales: Floats, k: int, dim: int) -> Floats:
        integers = self.operand(codes, k, dim).reshape(len(codes), k, dim)
        return integers.astype(np.float32) * np.asarray(scales, np.float32)[:, :1, None]

    def operand(self, codes: Bytes, k: int, dim: int) -> NDArray[Any]:
        words = _records(self, codes, k, dim).view(self._word)
        rows = np.take(self._table, words, mode="wrap").view(np.int8)
        rows = rows.reshape(len(codes) * k, self._words(dim) * self._each)
        there = present(codes, k)
        if there is not None:
            rows[~there.reshape(-1)] = 0
        return rows if rows.shape[1] == dim else np.ascontiguousarray(rows[:, :dim])

    def _words(self, dim: int) -> int:
        return -(-dim // self._each)


_CODECS: Final[dict[str, Codec]] = {
    codec.name: codec for codec in (Int8(), Packed(4), Packed(2), Packed(1), Fp16())
}
NAMES: Final = tuple(_CODECS)


def codec(name: str | Codec) -> Codec:
    """The codec of that name; a codec is given back. Raises ValueError for an unknown one."""
    if not isinstance(name, str):
        return name
    if name not in _CODECS:
        close = get_close_matches(name, NAMES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no codec is called {name!r}; {hint}known: {', '.join(NAMES)}")
    return _CODECS[name]


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


def checked(codec: Codec, codes: Bytes, k: int, dim: int) -> None:
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


def _numbers(values: Floats) -> NDArray[np.int64]:
    """(N,) how many numbers of values (N, K, D) are of tokens that are there."""
    return np.asarray(values.any(axis=2).sum(axis=1, dtype=np.int64) * values.shape[2])


def _rounded(values: Floats, steps: Floats, numbers: Floats) -> Floats:
    """Integers (N, K, D) in -127 … 127, of values (N, K, D) in steps (N, 1, 1).

    `numbers` (N, 1, 1) of the values count, the others are of absent tokens.
    """
    integers: Floats = np.clip(np.rint(values / steps), -127, 127)
    squares = values * values
    even = EVEN * (squares.sum(axis=(1, 2), keepdims=True) / np.maximum(numbers, np.float32(1)))
    errors = values - steps * integers
    for _ in range(TURNS if values.size else 0):
        # what turning one code of a token the other way, the one that gains most, does to its error product
        # with itself, squared, and (a little) to its own squared error
        products = np.einsum("nkd,nkd->nk", errors, values)[..., None]
        ways = np.sign(errors)
        costs = (squares + even) * steps - 2 * ways * (products * values + even * errors)
        best = costs.argmin(2, keepdims=True)
        turns = np.where(np.take_along_axis(costs, best, 2) < 0, np.take_along_axis(ways, best, 2), 0)
        turned = np.take_along_axis(integers, best, 2) + turns
        turns = np.where(np.abs(turned) > 127, 0, turns)
        np.put_along_axis(integers, best, np.take_along_axis(integers, best, 2) + turns, 2)
        np.put_along_axis(errors, best, np.take_along_axis(errors, best, 2) - turns * steps, 2)
    return integers


def _records(codec: Codec, codes: Bytes, k: int, dim: int) -> Bytes:
    checked(codec, codes, k, dim)
    return np.ascontiguousarray(codes)
