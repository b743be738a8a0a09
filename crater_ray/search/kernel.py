"""Late interaction on a CPU: chunked GEMMs over kept tokens, small enough that the products stay in cache.

int8 codes go through `torch._int_mm`, 16 to 256 images at a time at K = 64; the maximum is taken in int32,
and scales meet the maxima only. Where `_int_mm` is absent or a plain loop, as on CPUs without AVX-512, the
same integers are multiplied in float32: exact up to dim = 1040 (1040 x 127^2 < 2^24), so both roads give the
same scores. So they are where it is wrong: it is a private function with one kernel for each kind of CPU, and
with AMX it is wrong for an inner dimension of 1. Each class of shapes is tried before its first use.
fp16 codes are scored in float32. Where a rounded query could change which tokens are best (`mutual`), decoded
tokens meet the query in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crater_ray.search.codecs import Bytes, Codec, Floats, Int8, checked, present
from crater_ray.search.codecs import codec as named_codec
from crater_ray.search.scoring import OfTokens, Scoring
from crater_ray.search.scoring import scoring as named_scoring

PRODUCTS = 1 << 18  # of one GEMM: 1 MiB of int32, what an L2 holds
ROWS = 16_384  # gallery tokens of one GEMM at most: 256 images at K = 64
FLOAT_ROWS = 2048  # the same in float32, whose operand is a copy that should not leave the cache
COLUMNS = 256  # query tokens of one GEMM at most, when several queries share it
EDGE = 64  # rows: kernels have tiles of 16, 32 or 64, and other code for the rows that are left over
LARGEST = 127  # of a code
TRIED = 512, 384, 64  # rows, dim and columns of the GEMM by which the quicker road is told

Queries = Tensor | NDArray[Any]
Multiply = Callable[[Tensor, Tensor, Tensor], object]  # left (M, D), right (D, W), out (M, W)


class Explanation(NamedTuple):
    """The P pairs of tokens that make up one score, the largest contribution first. Their sum is it."""

    query_token: NDArray[np.int64]  # (P,)
    gallery_token: NDArray[np.int64]  # (P,)
    similarity: Floats  # (P,)
    contribution: Floats  # (P,)


def score(
    queries: Queries,
    codes: Bytes,
    scales: Floats,
    *,
    codec: str | Codec,
    k: int,
    dim: int,
    scoring: str = "maxsim",
) -> Floats:
    """Scores (B, C) float32 of B queries against C images; maxsim: the mean over Q of the best of K.

    queries (B, Q, D) float, codes (C, record_bytes) uint8 (a memmap will do), scales (C, s) float32. Tokens
    of zeros are absent and match nothing; an image or a query of nothing else scores 0.
    Raises ValueError for shapes that do not fit, unknown names, and queries that are not finite.
    """
    keeper, chosen = named_codec(codec), named_scoring(scoring)
    tokens = _checked_queries(queries, dim)
    _check_gallery(codes, scales, keeper, k, dim)
    if chosen.of_tokens is not None:
        return _of_tokens(chosen.of_tokens, tokens, codes, keeper, k, dim)
    compare = chosen.of_products
    assert compare is not None  # a scoring is one or the other
    out = torch.empty((len(codes), len(tokens)))
    road = _road(tokens, keeper, chosen)
    for part in _products(road, codes, scales, keeper, k, dim):
        out[part.images, part.queries] = compare(part.products, part.scales, part.which)
    scores: Floats = out.numpy().T
    return np.ascontiguousarray(scores * scales[:, 0] if road.scaled else scores)


def _of_tokens(compare: OfTokens, queries: Tensor, codes: Bytes, keeper: Codec, k: int, dim: int) -> Floats:
    """Scores (B, C) of a scoring that needs no products."""
    out = torch.empty((len(codes), len(queries)))
    step = max(1, FLOAT_ROWS // k)
    for start in range(0, len(codes), step):
        left = _tensor(keeper.operand(codes[start : start + step], k, dim))
        out[start : start + step] = compare(left.view(-1, k, dim), queries)
    scores: Floats = np.ascontiguousarray(out.numpy().T)
    return scores


def explain(
    query: Queries,
    codes: Bytes,
    scales: Floats,
    *,
    codec: str | Codec,
    k: int,
    dim: int,
    scoring: str = "maxsim",
) -> list[Explanation]:
    """For each of C images, the pairs of tokens that its score by `scoring` is made of: query (Q, D).

    None of them has an absent token. A score of no products (`mean_token`) is made of no pairs. Raises
    ValueError as `score`.
    """
    keeper, chosen = named_codec(codec), named_scoring(scoring)
    tokens = _checked_queries(query[None], dim)
    _check_gallery(codes, scales, keeper, k, dim)
    if chosen.weights is None:
        nothing, none = np.empty(0, np.int64), np.empty(0, np.float32)
        return [Explanation(nothing, nothing, none, none)] * len(codes)
    road = _road(tokens, keeper, chosen)
    asked = road.scales[0] > 0
    found: list[Explanation] = []
    for part in _products(road, codes, scales, keeper, k, dim):
        similarities = part.products[:, :, 0] * part.scales
        if road.scaled:
            similarities *= torch.from_numpy(scales[part.images, :1])[:, :, None]
        there = part.which()
        every = similarities.new_ones(similarities.shape[:2], dtype=torch.bool)
        weights = chosen.weights(similarities, asked, every if there is None else there)
        found += [_explained(*image) for image in zip(similarities, weights, strict=True)]
    return found


def _explained(similarities: Tensor, weights: Tensor) -> Explanation:
    """Of one image: similarities (K, Q) and what each counts (K, Q)."""
    query, gallery = weights.t().nonzero(as_tuple=True)
    similarity = similarities[gallery, query].double()
    contribution = similarity * weights[gallery, query]
    order = (-contribution).argsort(stable=True)
    return Explanation(
        query[order].numpy(),
        gallery[order].numpy(),
        similarity[order].float().numpy(),
        contribution[order].float().numpy(),
    )


@cache
def has_int_mm() -> bool:
    """Whether `torch._int_mm` works here and is the quick road, which is timed once, in milliseconds."""
    rows, dim, columns = TRIED
    left = (torch.arange(rows * dim).view(rows, dim) % 255 - 127).to(torch.int8)
    right = left[:columns].t().contiguous()
    out, floats = torch.empty((rows, columns), dtype=torch.int32), torch.empty((rows, columns))
    try:
        of_integers = _seconds(lambda: torch._int_mm(left, right, out=out))
    except (AttributeError, RuntimeError, TypeError):  # not there, or not built for this CPU
        return False
    multiply, as_floats = _Floats(), right.float()
    of_floats = _seconds(lambda: multiply(left, as_floats, floats))
    return of_integers < of_floats and torch.equal(out, floats.int())


def _seconds(multiply: Callable[[], object]) -> float:
    """Of the quickest of three, after one that warms up."""
    multiply()
    spent = []
    for _ in range(3):
        began = perf_counter()
        multiply()
        spent.append(perf_counter() - began)
    return min(spent)


def believed(rows: int, dim: int, columns: int) -> bool:
    """Whether `torch._int_mm` is right for (rows, dim) x (dim, columns).

    Tried once a process for each dim, number of columns, and class of rows: small ones each, larger ones by
    what is left over of whole tiles.
    """
    product = getattr(torch, "_int_mm", None)
    if product is None:
        return False
    return _right(product, rows if rows <= 2 * EDGE else 2 * EDGE + rows % EDGE, dim, columns)


@cache
def _right(product: Callable[..., object], rows: int, dim: int, columns: int) -> bool:
    left, right = _tried(rows, dim, 0), _tried(columns, dim, 1).t().contiguous()
    out = torch.full((rows, columns), LARGEST, dtype=torch.int32)
    try:
        product(left, right, out=out)
    except (RuntimeError, TypeError):  # not built for this CPU
        return False
    return torch.equal(out.double(), left.double() @ right.double())  # exact: sums stay far below 2^53


def _tried(count: int, dim: int, seed: int) -> Tensor:
    """(count, dim) int8: the largest sums there can be, then codes of either extreme, then any."""
    draws = torch.Generator().manual_seed(seed)
    codes = torch.randint(-LARGEST, LARGEST + 1, (count, dim), generator=draws)
    codes[::2] = torch.where(codes[::2] < 0, -LARGEST, LARGEST)
    codes[:1] = LARGEST
    codes[1:2] = -LARGEST
    return codes.to(torch.int8)


class _Road(NamedTuple):
    """How the tokens of B queries meet those of the gallery."""

    multiply: Multiply
    right: Tensor  # (B * Q, D), as `multiply` takes them
    scales: Tensor  # (B, Q) of the query's tokens, 0 where one is absent
    products: torch.dtype
    scaled: bool  # whether an image's own scale is still to come
    decoded: bool = False  # whether `left` is decoded tokens, not codes


def _road(tokens: Tensor, keeper: Codec, chosen: Scoring) -> _Road:
    count, width, dim = tokens.shape
    flat = tokens.reshape(count * width, dim)
    asked = flat.any(1).view(count, width)
    if chosen.decided:
        return _Road(_multiply_exactly, flat.double(), asked.double(), torch.float64, False, True)
    if not keeper.integers:
        return _Road(_Floats(), flat, asked.float(), torch.float32, False)
    scales = flat.abs().amax(1) / 127
    divisor = torch.where(scales > 0, scales, torch.ones(()))
    integers = (flat / divisor[:, None]).round().clamp(-127, 127)
    scales = scales.view(count, width)
    if has_int_mm():
        return _Road(_Integers(), integers.to(torch.int8), scales, torch.int32, True)
    return _Road(_Floats(), integers, scales, torch.float32, True)


def _multiply_exactly(left: Tensor, right: Tensor, out: Tensor) -> None:
    torch.mm(left, right, out=out)


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


class _Integers:
    """Multiplies codes as integers where that is right, and as float32 where it is not."""

    def __init__(self) -> None:
        self._floats = _Floats()

    def __call__(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        if believed(left.shape[0], left.shape[1], right.shape[1]):
            torch._int_mm(left, right, out=out)
            return
        products = torch.empty(out.shape)
        self._floats(left, right.float(), products)
        out.copy_(products)


def _chunks(
    codes: Bytes, scales: Floats, keeper: Codec, k: int, dim: int, step: int, road: _Road
) -> Iterator[tuple[int, int, Tensor]]:
    """First image, last image + 1, and their tokens ((last - first) * K, D), a chunk at a time."""
    # int8 codes are viewed; the others' operands are copies, so never of more than a chunk
    viewed = isinstance(keeper, Int8) and not road.decoded
    whole = _tensor(keeper.operand(codes, k, dim)) if viewed else None
    for start in range(0, len(codes), step):
        stop = min(start + step, len(codes))
        if whole is not None:
            yield start, stop, whole[start * k : stop * k]
        elif road.decoded:
            tokens = keeper.decode(codes[start:stop], scales[start:stop], k, dim)
            yield start, stop, torch.from_numpy(tokens.reshape(-1, dim)).double()
        else:
            yield start, stop, _tensor(keeper.operand(codes[start:stop], k, dim))


def _present(codes: Bytes, k: int) -> Tensor | None:
    """(n, K) bool which tokens there are; None: all of them."""
    there = present(codes, k)
    return None if there is None else torch.from_numpy(there)


class _Part(NamedTuple):
    """A chunk of n images and the B queries that share a GEMM with them."""

    images: slice
    queries: slice
    products: Tensor  # (n, K, B, Q), in memory that the next part is written to
    scales: Tensor  # (B, Q)
    which: Callable[[], Tensor | None]  # of the images' tokens are present


def _products(road: _Road, codes: Bytes, scales: Floats, keeper: Codec, k: int, dim: int) -> Iterator[_Part]:
    """What all queries' tokens and all images' tokens multiply to, a GEMM at a time."""
    count, width = road.scales.shape
    together = max(1, COLUMNS // width)  # queries that share a GEMM
    places = [slice(first, first + together) for first in range(0, count, together)]
    rights = [road.right.view(count, -1)[place].reshape(-1, dim).t().contiguous() for place in places]
    # images of one GEMM: its products fit the cache, its rows are enough to be worth the call
    rows = ROWS if road.products == torch.int32 else FLOAT_ROWS
    step = max(1, min(rows, PRODUCTS // (width * min(together, max(count, 1)))) // k)
    buffer = torch.empty(min(step, len(codes)) * k * width * min(together, count), dtype=road.products)
    for start, stop, left in _chunks(codes, scales, keeper, k, dim, step, road):
        which = cache(partial(_present, codes[start:stop], k))
        for place, right in zip(places, rights, strict=True):
            asked = road.scales[place]
            shape = (stop - start, k, *asked.shape)
            products = buffer[: math.prod(shape)]
            road.multiply(left, right, products.view(left.shape[0], right.shape[1]))
            yield _Part(slice(start, stop), place, products.view(shape), asked, which)


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
