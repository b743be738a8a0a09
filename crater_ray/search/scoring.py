"""How two sets of tokens are compared: a closed set; a new one is its functions and its name in SCORINGS.

An absent token, one of zeros, matches nothing. An absent gallery token is never the best. An absent query
token adds 0 to a mean, which is still over all Q (and over all K in chamfer's other direction): an image with
few features scores itself its share of present tokens, and no score is above 1. Where one side has no token
at all the score is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from crater_ray.search.geometry import agreeing, side_of

Present = Callable[[], Tensor | None]  # tells which gallery tokens are present (n, K) bool, None: all
# Products (n, K, B, Q) int32 or float, query scales (B, Q) float, 0 where a query token is absent, and what
# tells the present gallery tokens, for whoever needs to know. Products times query scales are the
# similarities of n images' K tokens to B queries' Q tokens, up to one positive factor an image that the
# kernel applies afterwards. Products of absent gallery tokens are 0 and may be overwritten.
OfProducts = Callable[[Tensor, Tensor, Present], Tensor]  # -> scores (n, B) float32
# similarities (n, K, Q) float, asked (Q,) bool and present (n, K) bool -> (n, K, Q), each one's weight in the
# score
Weights = Callable[[Tensor, Tensor, Tensor], Tensor]
# tokens (n, K, D) int8 or float32, of any length an image, and queries (B, Q, D) float32 -> (n, B) float32
OfTokens = Callable[[Tensor, Tensor], Tensor]

WIDE = 64  # columns: four AVX-512 registers


@dataclass(frozen=True, slots=True)
class Scoring:
    """One of the two: what is made of the products of all pairs of tokens, or of the tokens themselves."""

    of_products: OfProducts | None = None
    weights: Weights | None = None  # beside of_products
    of_tokens: OfTokens | None = None
    decided: bool = (
        False  # which tokens are best decides more than how good they are: float64, no rounded query
    )
    places: bool = False  # compares places: of all tokens of a square grid


def maxsim(products: Tensor, scales: Tensor, which: Present) -> Tensor:
    """Mean over the query's tokens of the best gallery token (s_LI, CraterBench-R)."""
    best = _best(products)  # in the integers: query scales are >= 0 and change no maximum
    present = None
    if best.min().item() <= 0 and (present := which()) is not None:  # else no absent token was the best
        best = _best(_hidden(products, present))
    return _of_some((best * scales).mean(-1), present)


def maxsim_weights(similarities: Tensor, asked: Tensor, present: Tensor) -> Tensor:
    """1 / Q for each query token's best gallery token, of equals the first."""
    there = asked & present.any(1, keepdim=True)  # (n, Q)
    nearest = _lowered(similarities, ~present[:, :, None]).argmax(1)
    return _marked(nearest, there, similarities.shape[1]).transpose(1, 2) / len(asked)


def chamfer(products: Tensor, scales: Tensor, which: Present) -> Tensor:
    """Mean of both directions: the query's tokens to their best, and the gallery's to theirs."""
    present = which()
    similarity = _hidden(products, present) * scales
    asked = scales > 0  # (B, Q)
    best = similarity.amax(1).mean(-1)
    if not bool(asked.all()):
        similarity = _lowered(similarity, ~asked)
    back = similarity.amax(3)  # (n, K, B)
    if present is not None:
        back = back.masked_fill(~present[:, :, None], 0.0)
    return _of_some((best + back.mean(1)) / 2, present).masked_fill(~asked.any(1), 0.0)


def chamfer_weights(similarities: Tensor, asked: Tensor, present: Tensor) -> Tensor:
    """1 / 2Q for each query token's best gallery token, and 1 / 2K the other way; a pair may have both."""
    there = present & asked.any()  # (n, K)
    nearest = _lowered(similarities, ~asked).argmax(2)
    back = _marked(nearest, there, len(asked)) / similarities.shape[1]
    return (maxsim_weights(similarities, asked, present) + back) / 2


def mutual(products: Tensor, scales: Tensor, which: Present) -> Tensor:
    """Mean similarity of the pairs of tokens that are each other's nearest, of equals the first.

    Where both sides have tokens there is always one: among the pairs of highest similarity, that of the first
    gallery token.
    """
    best, _, pairs = _mutual_pairs(products, scales, which)
    found = best.masked_fill(~pairs, 0.0).sum(-1) / pairs.sum(-1).clamp(min=1)
    return found.float()


def mutual_weights(similarities: Tensor, asked: Tensor, present: Tensor) -> Tensor:
    """1 / P for each of the P pairs of tokens that are each other's nearest."""
    similarities = _lowered(_lowered(similarities, ~present[:, :, None]), ~asked)
    forth = _marked(similarities.argmax(1), asked & present.any(1, keepdim=True), similarities.shape[1])
    back = _marked(similarities.argmax(2), present & asked.any(), len(asked))
    pairs = forth.transpose(1, 2) * back
    return pairs / pairs.sum((1, 2), keepdim=True).clamp(min=1)


def consistent(products: Tensor, scales: Tensor, which: Present) -> Tensor:
    """Sum over the query's tokens of similarity cubed, over Q, of mutual pairs that agree on one geometry.

    Tokens stand row by row on square grids (geometry.py). A query joined by hits has several grids; each is
    compared by itself, and their scores are averaged. Raises ValueError for tokens that make no square.
    """
    n, k, count, width = products.shape
    side_of(k)
    if width % k:
        side_of(width)
        k = width
    grids = products.reshape(n, -1, count * (width // k), k)
    best, nearest, pairs = _mutual_pairs(grids, scales.reshape(-1, k), which)
    weights = best.clamp(min=0).pow(3) * pairs  # (n, grids, k)
    held = agreeing(weights.flatten(0, 1), nearest.flatten(0, 1), products.shape[1]).view_as(pairs)
    return (weights * held).sum(2).view(n, count, -1).mean(2).float() / k


def consistent_weights(similarities: Tensor, asked: Tensor, present: Tensor) -> Tensor:
    """Similarity squared over Q for each pair that `consistent` counts."""
    _, gallery, width = similarities.shape
    k = gallery if width % gallery == 0 else width
    weights = torch.zeros_like(similarities, dtype=torch.float64)
    for first in range(0, width, k):
        grid = slice(first, first + k)
        products = similarities[:, :, None, grid].clone()
        best, nearest, pairs = _mutual_pairs(products, asked[grid].to(products.dtype)[None], lambda: present)
        strength = best.clamp(min=0).pow(3) * pairs
        held = agreeing(strength[:, 0], nearest[:, 0], gallery) & pairs[:, 0]
        weight = best[:, 0].clamp(min=0).square() * held / width
        weights[:, :, grid] = _marked(nearest[:, 0], held, gallery).transpose(1, 2) * weight[:, None]
    return weights


def mean_token(tokens: Tensor, queries: Tensor) -> Tensor:
    """Cosine of the two means of tokens; 0 for a mean of zeros."""
    means = normalize(tokens.sum(1, dtype=torch.float32), dim=-1)  # of integers: the sum is exact
    return means @ normalize(queries.mean(1), dim=-1).t()


def _mutual_pairs(products: Tensor, scales: Tensor, which: Present) -> tuple[Tensor, Tensor, Tensor]:
    """(n, B, Q) each query token's best similarity, its gallery token, and whether that holds both ways."""
    present, asked = which(), scales > 0  # (B, Q)
    similarity = _hidden(products, present) * scales
    if not bool(asked.all()):
        similarity = _lowered(similarity, ~asked)
    best, nearest = similarity.max(1)  # (n, B, Q)
    back = similarity.argmax(3).transpose(1, 2)  # (n, B, K)
    pairs = (back.gather(2, nearest) == torch.arange(best.shape[2], device=best.device)) & asked
    if present is not None:
        pairs &= present.any(1)[:, None, None]  # then the nearest is present
    return best, nearest, pairs


def _best(products: Tensor) -> Tensor:
    """products.amax(1), (n, B, Q); few columns are folded first, for a maximum over rows of 64 is quicker."""
    n, k, count, width = products.shape
    fold = 1
    while k % (2 * fold) == 0 and 2 * fold * count * width <= WIDE:
        fold *= 2
    if fold == 1:
        return products.amax(1)
    return products.view(n, k // fold, -1).amax(1).view(n, fold, count, width).amax(1)


def _hidden(products: Tensor, present: Tensor | None) -> Tensor:
    """The products, in place, with the least there is for gallery tokens that are absent."""
    if present is not None:
        products[~present] = _least(products)
    return products


def _lowered(similarities: Tensor, where: Tensor) -> Tensor:
    return similarities.masked_fill(where, _least(similarities))


def _least(values: Tensor) -> float:
    """Of the type; finite, so that times 0 it is 0."""
    return torch.finfo(values.dtype).min if values.is_floating_point() else torch.iinfo(values.dtype).min


def _of_some(scores: Tensor, present: Tensor | None) -> Tensor:
    """Scores (n, B), 0 for images without a token."""
    return scores if present is None else scores.masked_fill(~present.any(1, keepdim=True), 0.0)


def _marked(places: Tensor, where: Tensor, size: int) -> Tensor:
    """(n, M) places -> (n, M, size), 1 at each place, none for those that are not `where` (n, M)."""
    return one_hot(places, size).to(torch.float64) * where[:, :, None]


SCORINGS: Final[dict[str, Scoring]] = {
    "maxsim": Scoring(maxsim, maxsim_weights),
    "chamfer": Scoring(chamfer, chamfer_weights),
    "mutual": Scoring(mutual, mutual_weights, decided=True),
    "consistent": Scoring(consistent, consistent_weights, decided=True, places=True),
    "mean_token": Scoring(of_tokens=mean_token),
}


def scoring(name: str) -> Scoring:
    """The scoring of that name. Raises ValueError for an unknown one, with the closest."""
    if name not in SCORINGS:
        close = get_close_matches(name, list(SCORINGS), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no scoring is called {name!r}; {hint}known: {', '.join(SCORINGS)}")
    return SCORINGS[name]
