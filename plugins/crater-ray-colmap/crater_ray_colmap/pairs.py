"""Which images are compared: pairs of names, each once, first < second, in a file that COLMAP reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from crater_ray.errors import UserError
from crater_ray.files import write_whole
from crater_ray.pairs import nearest_pairs

if TYPE_CHECKING:
    import pyarrow.dataset as ds

Pairs = list[tuple[str, str]]
NAME = "pairs.txt"
MOST_EXHAUSTIVE = 3000  # images: 4.5 million pairs, a day and a half of one core at 0.03 s a pair


def retrieved(images: int, neighbours: ds.Dataset, top: int, names: Mapping[str, str]) -> Pairs:
    """Each image with its `top` neighbours, by COLMAP's names.

    images: of the index. names: of each id. Raises UserError when there are no pairs, or the table has fewer
    neighbours than `top`.
    """
    table = nearest_pairs(neighbours, top, images, "colmap")
    ids = zip(table["first"].to_pylist(), table["second"].to_pylist(), strict=True)
    pairs = unordered((names[first], names[second]) for first, second in ids)
    if not pairs:
        raise UserError(f"no pairs: an index of {images} images has no neighbours to match")
    return pairs


def exhaustive(names: Sequence[str]) -> Pairs:
    """Every pair. Raises UserError for more images than anybody would wait for."""
    if len(names) > MOST_EXHAUSTIVE:
        raise UserError(
            f"baseline exhaustive: {len(names)} images are {len(names) * (len(names) - 1) // 2:,} pairs; "
            f"leave it out above {MOST_EXHAUSTIVE} images"
        )
    return list(combinations(sorted(names), 2))


def first_ranks(ranks: Mapping[str, Sequence[str]], count: int) -> Pairs:
    """`count` pairs of a ranking: every image's first hit, then every second, … as far as that takes.

    So two ways of choosing are compared at equal work. Fewer where the ranking holds no more.
    """
    chosen: set[tuple[str, str]] = set()
    for rank in range(max((len(hits) for hits in ranks.values()), default=0)):
        for query in sorted(ranks):
            if len(chosen) == count:
                return sorted(chosen)
            if rank < len(ranks[query]):
                chosen |= set(unordered([(query, ranks[query][rank])]))
    return sorted(chosen)


def unordered(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Sorted and unique, first < second, nothing with itself."""
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})


def write(path: Path, pairs: Iterable[Sequence[object]]) -> Path:
    """A line each, the words of a line apart by one space."""
    write_whole(path, "".join(" ".join(map(str, pair)) + "\n" for pair in pairs).encode())
    return path
