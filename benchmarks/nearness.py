"""How far the nearest views are, drawn and real: what an index of drawn views must share with a real one.

    python benchmarks/nearness.py indexes/scale-real indexes/scale-20000 … [--views 200] [--json]

Of some views of each index: the cosine of shortlist vectors and the late-interaction score of the nearest
other view, the 10th and the 100th; 5 %, 50 % and 95 % of those. And of some of its queries. A scale-N that is
not there is drawn first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scale_case import Queries, alone
from table import Report, arguments, show

from crater_ray.index.opened import Snapshot
from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score
from crater_ray.search.whitening import whiten

RANKS = (1, 10, 100)
NAMES = ("nearest", "10th", "100th")
SHARES = (5, 50, 95)
Array = np.ndarray[Any, Any]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("index", type=Path, nargs="+", help="a real one first, then drawn ones")
    parser.add_argument("--views", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = ["views", "what", *(f"{what}, {rank}" for what in ("cosine", "score") for rank in NAMES)]
    rows: list[list[object]] = []
    keys: dict[str, float] = {}
    for root in options.index:
        if not root.exists():
            alone("scale.py", "--write", root.name.removeprefix("scale-"), "--keep", str(root.parent))
            alone("scale.py", "--stage-one", root.name.removeprefix("scale-"), "--keep", str(root.parent))
        opened = Snapshot(root)
        for name, cosines, scores in asked(opened, root, options.views):
            cells = []
            for kind, best in (("cosine", cosines), ("score", scores)):
                for rank in RANKS:
                    shares = np.percentile(best[:, rank - 1], SHARES)
                    cells.append(" ".join(f"{value:.3f}" for value in shares))
                    keys[f"{root.name}, {name}, {kind}, {rank}"] = float(shares[1])
            rows.append([f"{len(opened):,}", name, *cells])
    report = Report("The nearest views: 5 %, 50 %, 95 %", columns, rows, keys)
    show(report, options, torch=torch.__version__)


def asked(opened: Snapshot, root: Path, count: int) -> Iterator[tuple[str, Array, Array]]:
    """(who asks, cosines (n, 100), scores (n, 100)), best first."""
    recipe = opened.recipe
    own = np.sort(np.random.default_rng(0).permutation(len(opened))[:count])
    tokens = codec(recipe.codec).decode(*opened.gather(own), recipe.k, recipe.dim)
    yield "views of the index", *nearest(opened, np.asarray(opened.vectors(own)), tokens, own)
    for version in Snapshot(root / "queries").version.number, 1:
        queries = Queries(root / "queries", version, count)
        name = f"its queries, version {version}"
        yield name, *nearest(opened, *queries.some(0, len(queries)), np.full(len(queries), -1))
        if version == 1:
            return


def nearest(opened: Snapshot, vectors: Array, tokens: Array, own: Array) -> tuple[Array, Array]:
    """(n, 100) cosines and scores of the nearest views other than the `own` rows."""
    recipe, learnt = opened.recipe, opened.fitted(opened.segments[0])

    def compared(vectors: Array) -> torch.Tensor:
        rows = vectors.astype(np.float32) if learnt is None else whiten(vectors, learnt)
        return torch.from_numpy(rows[:, 0])

    asked = compared(vectors)
    cosines = np.full((len(own), 0), 0.0, np.float32)
    scores = np.full((len(own), 0), 0.0, np.float32)
    for first, codes, scales in opened.blocks(4096):
        there = np.arange(first, first + len(codes))
        mine = own[:, None] == there
        found = (asked @ compared(opened.vectors(there)).T).numpy()
        found[mine] = -1
        cosines = best(cosines, found)
        found = score(tokens, codes, scales, codec=recipe.codec, k=recipe.k, dim=recipe.dim)
        found[mine] = -1
        scores = best(scores, found)
    return cosines, scores


def best(before: Array, found: Array) -> Array:
    every = np.concatenate([before, found], 1)
    return -np.sort(-every, axis=1)[:, : RANKS[-1]]


if __name__ == "__main__":
    main()
