"""Late interaction on a CPU: chunked GEMMs over kept tokens, small enough that the products stay in cache.

int8 codes go through `torch._int_mm`, 16 to 256 images at a time at K = 64; the maximum is taken in int32,
and scales meet the maxima only. Where `_int_mm` is not to be had, or is a plain loop as on CPUs without
AVX-512, the same integers are multiplied in float32: exact up to dim = 1040 (1040 x 127^2 < 2^24), so both
roads give the same scores. fp16 codes are scored in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crater_ray.search.codecs import Codec, Int8
from crater_ray.search.codecs import codec as named_codec
from crater_ray.search.matchings import OfTokens, matching
from crater_ray.search.records import Bytes, Floats, checked

PRODUCTS = 1 << 18  # of one GEMM: 1 MiB of int32, what an L2 holds
ROWS = 16_384  # gallery tokens of one GEMM at most: 256 images at K = 64
FLOAT_ROWS = 2048  # the same in float32, whose operand is a copy that should not leave the cache
COLUMNS = 256  # query tokens of one GEMM at most, when several queries share it
TRIED = 512, 384, 64  # rows, dim and columns of the GEMM by which the quicker road is told

Queries = Tensor | NDArray[Any]
Multiply = Callable[[Tensor, Tensor, Tensor], None]  # left (M, D), right (D, W), out (M, W)


def score(
    queries: Queries,
    codes: Bytes,
    scales: Floats,
    *,
    codec: str | Codec,
    k: int,
    dim: int,
    match: str = "maxsim",
) -> Floats:
    """Scores (B, C) float32 of B queries against C images; maxsim: the mean over Q of the best of K.

    queries (B, Q, D) float, codes (C, record_bytes) uint8 (a memmap will do), scales (C, s) float32.
    Raises ValueError for shapes that do not fit, unknown names, and queries that are not finite.
    """
    keeper, chosen = named_codec(codec), matching(match)
    tokens = _checked_queries(queries, dim)
    _check_gallery(codes, scales, keeper, k, dim)
    if chosen.of_tokens is not None:
        return _of_tokens(chosen.of_tokens, tokens, codes, keeper, k, dim)
    compare = chosen.of_products
    assert compare is not None  # a matching is one or the other
    count, width = tokens.shape[:2]
    out = torch.empty((len(codes), count))
    multiply, right, query_scales = _prepared(tokens, keeper)
    together = max(1, COLUMNS // width)  # queries that share a GEMM
    places = [slice(first, first + together) for first in range(0, count, together)]
    groups = [
        _Group(
            place,
            right.view(count, -1)[place].reshape(-1, right.shape[1]).t().contiguous(),
            query_scales[place],
        )
        for place in places
    ]
    step = _images(k, width * min(together, max(count, 1)), right)
    buffer = torch.empty(min(step, len(codes)) * k * width * min(together, count), dtype=_product_type(right))
    for start, stop, left in _chunks(codes, keeper, k, dim, step):
        for group in groups:
            shape = (stop - start, k, *group.scales.shape)
            products = buffer[: math.prod(shape)]
            multiply(left, group.right, products.view(left.shape[0], group.right.shape[1]))
            out[start:stop, group.place] = compare(products.view(shape), group.scales)
    scores: Floats = out.numpy().T
    return np.ascontiguousarray(scores * scales[:, 0] if keeper.scales else scores)


def _of_tokens(compare: OfTokens, queries: Tensor, codes: Bytes, keeper: Codec, k: int, dim: int) -> Floats:
    """Scores (B, C) of a matching that needs no products."""
    out = torch.empty((len(codes), len(queries)))
    for start, stop, left in _chunks(codes, keeper, k, dim, _images(k, dim, queries)):
        out[start:stop] = compare(left.view(stop - start, k, dim), queries)
    scores: Floats = np.ascontiguousarray(out.numpy().T)
    return scores


def explain(
    query: Queries, codes: Bytes, scales: Floats, *, codec: str | Codec, k: int, dim: int
) -> tuple[NDArray[np.int64], Floats]:
    """The gallery token (C, Q) each token of one query matched best, and their similarity (C, Q) float32.

    query (Q, D). The mean of the similarities over Q is the maxsim score. Raises ValueError as `score`.
    """
    keeper = named_codec(codec)
    tokens = _checked_queries(query[None], dim)
    _check_gallery(codes, scales, keeper, k, dim)
    width = tokens.shape[1]
    best, similarity = np.empty((len(codes), width), np.int64), np.empty((len(codes), width), np.float32)
    multiply, right, query_scales = _prepared(tokens, keeper)
    columns = right.t().contiguous()
    for start, stop, left in _chunks(codes, keeper, k, dim, _images(k, width, right)):
        products = torch.empty((left.shape[0], width), dtype=_product_type(right))
        multiply(left, columns, products)
        values, places = products.view(stop - start, k, width).max(1)
        best[start:stop] = places.numpy()
        similarity[start:stop] = (values * query_scales).numpy()
    if keeper.scales:
        similarity *= scales[:, :1]
    return best, similarity


@cache
def has_int_mm() -> bool:
    """Whether `torch._int_mm` works here and is the quick road, which is timed once, in milliseconds."""
    if not hasattr(torch, "_int_mm"):
        return False
    rows, dim, columns = TRIED
    left = (torch.arange(rows * dim).view(rows, dim) % 255 - 127).to(torch.int8)
    right = left[:columns].t().contiguous()
    out, floats = torch.empty((rows, columns), dtype=torch.int32), torch.empty((rows, columns))
    try:
        of_integers = _seconds(lambda: _multiply_integers(left, right, out))
    except (RuntimeError, TypeError):  # not built for this CPU: the float32 road is exact too
        return False
    multiply, as_floats = _Floats(), right.float()
    of_floats = _seconds(lambda: multiply(left, as_floats, floats))
    return of_integers < of_floats and torch.equal(out, floats.int())


def _seconds(multiply: Callable[[], None]) -> float:
    """Of the quickest of three, after one that warms up."""
    multiply()
    spent = []
    for _ in range(3):
        began = perf_counter()
        multiply()
        spent.append(perf_counter() - began)
    return min(spent)


def _prepared(tokens: Tensor, keeper: Codec) -> tuple[Multiply, Tensor, Tensor]:
    """The multiplication, the query tokens (B * Q, D) it takes, and their scales (B, Q) float32."""
    count, width, dim = tokens.shape
    flat = tokens.reshape(count * width, dim)
    if not keeper.integers:
        return _Floats(), flat, torch.ones(count, width)
    scales = flat.abs().amax(1) / 127
    divisor = torch.where(scales > 0, scales, torch.ones(()))
    integers = (flat / divisor[:, None]).round().clamp(-127, 127)
    if has_int_mm():
        return _multiply_integers, integers.to(torch.int8), scales.view(count, width)
    return _Floats(), integers, scales.view(count, width)


def _multiply_integers(left: Tensor, right: Tensor, out: Tensor) -> None:
    torch._int_mm(left, right, out=out)


class _Floats:
    """Multiplies codes as float32: a chunk is copied once for all queries, into memory that is used again."""

    def __init__(self) -> None:
        self._copy = torch.empty((0, 0))
        self._copied: Tensor | None = None

    def __call__(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        if left is not self._copied:
            if len(self._copy) < len(left):
                self._copy = torch.empty(left.shape)
            self._copy[: len(left)].copy_(left)
            self._copied = left
        torch.mm(self._copy[: len(left)], right, out=out)


def _product_type(right: Tensor) -> torch.dtype:
    return torch.int32 if right.dtype == torch.int8 else torch.float32


def _images(k: int, columns: int, right: Tensor) -> int:
    """Images of one GEMM: its products fit the cache, its rows are enough to be worth the call."""
    rows = ROWS if right.dtype == torch.int8 else FLOAT_ROWS
    return max(1, min(rows, PRODUCTS // columns) // k)


def _chunks(codes: Bytes, keeper: Codec, k: int, dim: int, step: int) -> Iterator[tuple[int, int, Tensor]]:
    """First image, last image + 1, and their tokens ((last - first) * K, D), a chunk at a time."""
    # int8 codes are viewed; the others' operands are copies, so never of more than a chunk
    whole = _tensor(keeper.operand(codes, k, dim)) if isinstance(keeper, Int8) else None
    for start in range(0, len(codes), step):
        stop = min(start + step, len(codes))
        some = (
            _tensor(keeper.operand(codes[start:stop], k, dim))
            if whole is None
            else whole[start * k : stop * k]
        )
        yield start, stop, some


class _Group(NamedTuple):
    """Queries that share a GEMM."""

    place: slice
    right: Tensor  # (D, queries * Q)
    scales: Tensor  # (queries, Q)


class _Writable:
    """A read-only array shown as a writable one, for torch warns of the others; the kernel only reads it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array  # kept alive by the view's base
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, without a copy; a read-only memmap will do."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


def _checked_queries(queries: Queries, dim: int) -> Tensor:
    tokens = torch.as_tensor(queries if isinstance(queries, Tensor) else np.array(queries, np.float32))
    tokens = tokens.detach().to("cpu", torch.float32)
    if tokens.ndim != 3 or tokens.shape[1] == 0 or tokens.shape[2] != dim:
        raise ValueError(
            f"queries are {tuple(tokens.shape)}; (queries, tokens, {dim}) is asked for, a token or more"
        )
    if not torch.isfinite(tokens).all():
        raise ValueError("a query token is not finite; refuse the image before it is searched for")
    return tokens


def _check_gallery(codes: Bytes, scales: Floats, keeper: Codec, k: int, dim: int) -> None:
    if k < 1 or dim < 1:
        raise ValueError(f"k = {k}, dim = {dim}: an image has a token and a dimension or more")
    checked(keeper, codes, k, dim)
    if scales.shape != (len(codes), keeper.scales):
        raise ValueError(f"scales are {scales.shape}; {keeper.name} keeps ({len(codes)}, {keeper.scales})")
