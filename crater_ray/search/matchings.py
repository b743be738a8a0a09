"""How two sets of tokens are compared: a closed set; a new one is a function and its name in MATCHINGS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

# products (n, K, B, Q) int32 or float32 and query scales (B, Q) float32 -> scores (n, B) float32. Products
# times query scales are the similarities of n images' K tokens to B queries' Q tokens, up to one positive
# factor an image that the kernel applies afterwards.
OfProducts = Callable[[Tensor, Tensor], Tensor]
# tokens (n, K, D) int8 or float32, of any length an image, and queries (B, Q, D) float32 -> (n, B) float32
OfTokens = Callable[[Tensor, Tensor], Tensor]

WIDE = 64  # columns: four AVX-512 registers


@dataclass(frozen=True, slots=True)
class Matching:
    """One of the two: what is made of the products of all pairs of tokens, or of the tokens themselves."""

    of_products: OfProducts | None = None
    of_tokens: OfTokens | None = None


def maxsim(products: Tensor, scales: Tensor) -> Tensor:
    """Mean over the query's tokens of the best gallery token (s_LI, CraterBench-R)."""
    best = _best(products)  # in the integers: the query scales are positive and change no maximum
    return (best * scales).mean(-1)


def _best(products: Tensor) -> Tensor:
    """products.amax(1), (n, B, Q); few columns are folded first, for a maximum over rows of 64 is quicker."""
    n, k, count, width = products.shape
    fold = 1
    while k % (2 * fold) == 0 and 2 * fold * count * width <= WIDE:
        fold *= 2
    if fold == 1:
        return products.amax(1)
    return products.view(n, k // fold, -1).amax(1).view(n, fold, count, width).amax(1)


def chamfer(products: Tensor, scales: Tensor) -> Tensor:
    """Mean of both directions: the query's tokens to their best, and the gallery's to theirs."""
    similarity = products * scales
    return (similarity.amax(1).mean(-1) + similarity.amax(3).mean(1)) / 2


def mutual(products: Tensor, scales: Tensor) -> Tensor:
    """Mean similarity of the pairs of tokens that are each other's nearest, of equals the first.

    There is always one: among the pairs of highest similarity, that of the first gallery token.
    """
    similarity = products * scales
    best, nearest = similarity.max(1)  # (n, B, Q)
    back = similarity.argmax(3).transpose(1, 2)  # (n, B, K)
    pairs = back.gather(2, nearest) == torch.arange(best.shape[2], device=best.device)
    return (best * pairs).sum(-1) / pairs.sum(-1)


def mean_token(tokens: Tensor, queries: Tensor) -> Tensor:
    """Cosine of the two means of tokens; 0 for a mean of zeros."""
    means = normalize(tokens.sum(1, dtype=torch.float32), dim=-1)  # of integers: the sum is exact
    return means @ normalize(queries.mean(1), dim=-1).t()


MATCHINGS: Final[dict[str, Matching]] = {
    "maxsim": Matching(of_products=maxsim),
    "chamfer": Matching(of_products=chamfer),
    "mutual": Matching(of_products=mutual),
    "mean_token": Matching(of_tokens=mean_token),
}


def matching(name: str) -> Matching:
    """The matching of that name. Raises ValueError for an unknown one, with the closest."""
    if name not in MATCHINGS:
        close = get_close_matches(name, list(MATCHINGS), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no matching is called {name!r}; {hint}known: {', '.join(MATCHINGS)}")
    return MATCHINGS[name]
