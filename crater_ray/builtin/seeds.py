"""Which K patches of an image are seeds: seven ways, all deterministic, of equals the first in row order.

A patch that is not present is no seed as long as there are others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
import xxhash
from torch import Tensor

from crater_ray.builtin import Heads, Seeds
from crater_ray.builtin.patches import there, unit
from crater_ray.types import Tokens

# Tokens, K <= T, how heads are reduced, which draw (of `random`) -> (N, K) int64 indices into the T patches,
# no patch twice, best first where there is a best
Chooser = Callable[[Tokens, int, Heads, int], Tensor]
ROUNDS = 5  # of Lloyd's algorithm
LAST = 2.0  # above every cosine
NEED_ATTENTION: Final[frozenset[Seeds]] = frozenset({"attention", "norm_attention"})


def attention(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """The patches the class token attends to most (CraterBench-R, step 1)."""
    return _highest(_attention(tokens, heads), k)


def norm(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """The longest patch tokens, before they are made unit rows."""
    return _highest(_norm(tokens), k)


def norm_attention(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """The highest product of length and attention."""
    return _highest(_lower(_norm(tokens) * _attention(tokens, heads), tokens), k)


def random(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """Any patches, by what the image's tokens are: its neighbours in the batch have no say."""
    orders = []
    present = tokens.present.cpu().numpy()
    for patches, has in zip(there(tokens).detach().cpu().half().numpy(), present, strict=True):
        content = xxhash.xxh3_64_intdigest(patches.tobytes())
        keys = np.random.PCG64([draw, content]).random_raw(len(patches))  # NumPy keeps raw streams for good
        orders.append(np.lexsort((keys, ~has))[:k])
    return torch.from_numpy(np.stack(orders)).to(tokens.patches.device)


def farthest(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """Farthest-point sampling by cosine: each next patch is the one least like the seeds so far.

    The first is the patch of highest attention, or the longest where the backbone has no attention.
    """
    return _spread(_cosines(tokens), _first(tokens, heads), k, tokens.present)


def medoids(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """The member nearest the centre of each cluster of spherical k-means, begun at `farthest`.

    A centre whose cluster empties stays where it was. A cluster that is empty at the end takes the patch
    least like any centre that no other has taken.
    """
    cosines, present = _cosines(tokens), tokens.present
    # centres stay sums of tokens, so that only cosines between tokens are ever needed: (N, T, K) weights
    first = _spread(cosines, _first(tokens, heads), k, present)
    weights = _one_hot(first, cosines.shape[1]).transpose(1, 2)
    for _ in range(ROUNDS):
        members = _one_hot(_to_centres(cosines, weights).argmax(2), k) * present[:, :, None]
        weights = torch.where(members.sum(1, keepdim=True) > 0, members, weights)
    similarity = _to_centres(cosines, weights)
    members = _one_hot(similarity.argmax(2), k) * present[:, :, None]
    empty = members.sum(1) == 0  # (N, K)
    best = similarity.masked_fill(members == 0, -torch.inf).argmax(1)  # (N, K)
    taken = torch.zeros_like(cosines[:, 0]).scatter_add_(1, best, (~empty).float()) > 0
    alike = similarity.amax(2).masked_fill(~present, LAST).masked_fill(taken, torch.inf)
    spare = alike.sort(dim=1, stable=True).indices
    return torch.where(empty, spare.gather(1, (empty.cumsum(1) - 1).clamp(min=0)), best)


def grid(tokens: Tokens, k: int, heads: Heads, draw: int) -> Tensor:
    """K patches spread evenly over the grid, whatever they show; the same for every image.

    They lie on about sqrt(K rows / columns) evenly spaced rows, K / that many on each, as equal as can be.
    """
    rows, columns = tokens.grid
    lines = min(max(round((k * rows / columns) ** 0.5), -(-k // columns)), rows)
    places = []
    for line in range(lines):
        count = (line + 1) * k // lines - line * k // lines
        row = (2 * line + 1) * rows // (2 * lines)
        places += [row * columns + (2 * place + 1) * columns // (2 * count) for place in range(count)]
    return torch.tensor(places, device=tokens.patches.device).expand(len(tokens.patches), k)


SEEDS: Final[dict[Seeds, Chooser]] = {
    "attention": attention,
    "norm_attention": norm_attention,
    "norm": norm,
    "random": random,
    "farthest": farthest,
    "medoids": medoids,
    "grid": grid,
}


def present_first(chosen: Tensor, present: Tensor) -> Tensor:
    """(N, K) the seeds chosen, those that are not present exchanged for present patches that were not chosen.

    These come in row order, as long as there are any: present (N, T) bool.
    """
    lacking = ~present.gather(1, chosen)  # (N, K)
    if not bool(lacking.any()):
        return chosen
    spare = present.scatter(1, chosen, False)  # (N, T)
    order = (~spare).to(torch.uint8).argsort(dim=1, stable=True)  # spare patches first
    number = (lacking.cumsum(1) - 1).clamp(min=0)
    return torch.where(lacking & (number < spare.sum(1, keepdim=True)), order.gather(1, number), chosen)


def _attention(tokens: Tokens, heads: Heads) -> Tensor:
    """(N, T) float32, -1 where a patch is not present. Raises ValueError for Tokens without attention."""
    if tokens.attention is None:
        raise ValueError("seeds need class-to-patch attention, but these Tokens have none")
    weights: Tensor = tokens.attention.float()
    return _lower(weights.mean(1) if heads == "mean" else weights.amax(1), tokens)


def _norm(tokens: Tokens) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(there(tokens), dim=-1)
    return _lower(lengths, tokens)


def _lower(scores: Tensor, tokens: Tokens) -> Tensor:
    """Below every score, none of which is negative, where a patch is not present."""
    return scores.masked_fill(~tokens.present, -1.0)


def _highest(scores: Tensor, k: int) -> Tensor:
    # torch.topk breaks ties as it likes
    return scores.sort(dim=-1, descending=True, stable=True).indices[:, :k]


def _first(tokens: Tokens, heads: Heads) -> Tensor:
    """(N,) where farthest-point sampling begins."""
    return (_norm(tokens) if tokens.attention is None else _attention(tokens, heads)).argmax(1)


def _cosines(tokens: Tokens) -> Tensor:
    """(N, T, T), exactly symmetric and exactly 1 (of a zero token 0) with itself, so that equals do tie."""
    patches = unit(tokens)
    products = patches @ patches.transpose(1, 2)
    products = (products + products.transpose(1, 2)) / 2
    products.diagonal(dim1=1, dim2=2).round_()
    return products


def _spread(cosines: Tensor, first: Tensor, k: int, present: Tensor) -> Tensor:
    images = torch.arange(len(cosines), device=cosines.device)
    chosen = [first]
    absent = torch.where(
        present, -torch.inf, LAST
    )  # after all that are present, before what is chosen already
    nearest = torch.maximum(
        cosines[images, first], absent
    )  # (N, T), to the most alike seed; infinite for one
    for _ in range(1, k):
        nearest[images, chosen[-1]] = torch.inf
        chosen.append(nearest.argmin(1))
        nearest = torch.maximum(nearest, cosines[images, chosen[-1]])
    return torch.stack(chosen, 1)


def _to_centres(cosines: Tensor, weights: Tensor) -> Tensor:
    """(N, T, K) cosine of every token with every centre, the weighted sum of tokens (N, T, K)."""
    sums = cosines @ weights
    length = (weights * sums).sum(1, keepdim=True).clamp(min=0).sqrt()
    return sums / length.clamp(min=1e-6)


def _one_hot(places: Tensor, size: int) -> Tensor:
    """(N, M) int64 -> (N, M, size) float32."""
    zeros = torch.zeros(*places.shape, size, device=places.device)
    return zeros.scatter_(2, places[:, :, None], 1.0)
