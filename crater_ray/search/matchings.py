"""How two sets of tokens are compared: a closed set; a new one is a function and its name in MATCHINGS."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

from torch import Tensor

# products (n, K, B, Q) int32 or float32 and query scales (B, Q) float32 -> scores (n, B) float32. Products
# times query scales are the similarities of n images' K tokens to B queries' Q tokens, up to one positive
# factor an image that the kernel applies afterwards.
Matching = Callable[[Tensor, Tensor], Tensor]


def maxsim(products: Tensor, scales: Tensor) -> Tensor:
    """Mean over the query's tokens of the best gallery token (s_LI, CraterBench-R)."""
    best = products.amax(1)  # in the integers: the query scales are positive and change no maximum
    return (best * scales).mean(-1)


MATCHINGS: Final[dict[str, Matching]] = {"maxsim": maxsim}


def matching(name: str) -> Matching:
    """The matching of that name. Raises ValueError for an unknown one, with the closest."""
    if name not in MATCHINGS:
        close = get_close_matches(name, list(MATCHINGS), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no matching is called {name!r}; {hint}known: {', '.join(MATCHINGS)}")
    return MATCHINGS[name]
