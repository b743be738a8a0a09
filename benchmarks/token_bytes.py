"""Bytes an image against what they keep: mAP as a share of 64 tokens in float16, everything counted.

    python benchmarks/token_bytes.py benchmarks/moon20k.toml --sun any \
        --sun near:queries.query_azimuth=[225.0,315.0] [--queries 160] [--json]

What is learnt (whitening, codebooks) is learnt three times on images of half of the 30-degree fields and
asked for craters of the other half; the gallery stays whole. Bytes hold the stage-one vector, scales and each
image's share of what was learnt. Speed: 1,000 images scored on one thread, over PyLate's einsum.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codec_methods import Centroids, ProductQuantizer
from held_out import (
    Way,
    average_precisions,
    blocks,
    coded,
    fitted,
    learnt_rows,
    ratio_interval,
    region,
    split,
    suns,
)
from table import Report, arguments, interleaved, ratio, show

from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score

SPLITS, ROUNDS, SCORED = 3, 5, 1000
PLAIN, WHITE = "plain", "whitened"
LIMITS = {"whitened, K = 32, int2": (4096, 0.98), "whitened, K = 24, int1": (2048, 0.95)}


@dataclass(frozen=True)
class Kept:
    """Tokens of one aggregator, kept in several ways in one pass."""

    tokens: str
    k: int
    codecs: tuple[str, ...]
    rivals: tuple[str, ...] = ()  # learnt once, on the first split
    splits: int = SPLITS

    def way(self) -> Way:
        if self.tokens == PLAIN:
            return Way(PLAIN, "instance_tokens", {"k": self.k})
        return Way(WHITE, "whitened_tokens", {"of_options": {"k": self.k, "seeds": "farthest"}})

    def label(self, name: str) -> str:
        return f"{self.tokens}, K = {self.k}, {name}"


KEPT = (
    Kept(PLAIN, 64, ("fp16", "int8", "int4", "int2"), ("centroids + 2 bits", "PQ 48"), 1),
    Kept(WHITE, 64, ("fp16", "int8", "int4"), (), 1),
    Kept(WHITE, 32, ("int8", "int4", "int2", "int1"), ("centroids + 2 bits", "PQ 48")),
    Kept(WHITE, 24, ("int2", "int1")),
    Kept(WHITE, 16, ("int8", "int2", "int1"), (), 1),
)
REFERENCES = (KEPT[0].label("fp16"), KEPT[1].label("fp16"))


def codecs_of(kept: Kept, aggregator: Any, gallery: Any, learn: set[str], seed: int) -> dict[str, Any]:
    """The codecs by name; those with a codebook learn it from images of the regions `learn`."""
    sample = None
    found: dict[str, Any] = {}
    for name in (*kept.codecs, *(kept.rivals if not seed else ())):
        if name in kept.rivals:
            if sample is None:
                rows = learnt_rows(gallery, learn, 500)
                sample = np.concatenate(list(blocks(aggregator, gallery, "gallery", rows)))
            made = Centroids(sample, 2, seed) if name.startswith("c") else ProductQuantizer(sample, 48, seed)
            found[name] = made
        else:
            found[name] = codec(name)
    return found


def size(kept: Kept, one: Any, dim: int, gallery: Any) -> float:
    """Bytes an image, of both stages, with its share of what was learnt."""
    images = len(gallery.items)
    whitening = 4 * (dim * dim + dim) / images
    tokens = (
        one.bytes(kept.k, dim, images)
        if hasattr(one, "bytes")
        else one.record_bytes(kept.k, dim) + 4 * one.scales
    )
    return tokens + 2 * gallery.shape.dim + whitening * (2 if kept.tokens == WHITE else 1)


def speeds(k: int, dim: int, names: tuple[str, ...]) -> dict[str, float]:
    """codec -> times the einsum's speed at Q = K, one thread."""
    tokens = np.random.default_rng(0).standard_normal((SCORED, k, dim)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    query, whole = torch.from_numpy(tokens[0]), torch.from_numpy(tokens)

    def scoring(name: str) -> Any:
        codes, scales = codec(name).encode(tokens)
        return lambda: score(tokens[:1], codes, scales, codec=name, k=k, dim=dim)

    ways = {"einsum": lambda: torch.einsum("qd,ckd->cqk", query, whole).amax(2).mean(1)}
    ways |= {name: scoring(name) for name in names}
    seconds = interleaved(ways, ROUNDS)
    return {name: ratio(seconds["einsum"], seconds[name]) for name in ways}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("job", type=Path, help="a job with [queries]")
    parser.add_argument("--sun", action="append", help="NAME[:override;…] of the job, again for another")
    parser.add_argument("--queries", type=int, default=160, help="asked under each sun at most")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gallery, asked = suns(options.job, options.sun or ["job"], options.queries)
    everywhere = [region(item) for item in gallery.items]
    learns = [split(everywhere, seed) for seed in range(SPLITS)]
    held = {
        (sun.name, seed): np.array([name not in learn for name in sun.regions])
        for sun in asked
        for seed, learn in enumerate(learns)
    }
    found: dict[tuple[str, str], list[Any]] = {}  # label, sun -> AP of the held-out queries, split by split
    sizes: dict[str, float] = {}
    took: dict[str, float] = {}
    dim = gallery.shape.dim
    for kept in KEPT:
        for seed in range(kept.splits):
            learn = learns[seed]
            aggregator = fitted(kept.way(), gallery, learn)
            codecs = codecs_of(kept, aggregator, gallery, learn, seed)
            stored = coded(aggregator, gallery, list(codecs.values()))
            for sun in asked:
                queries = np.concatenate(list(blocks(aggregator, sun.cached, "query", sun.rows)))
                for (name, one), both in zip(codecs.items(), stored, strict=True):
                    label = kept.label(name)
                    named = "int8" if name in kept.rivals else name
                    ap = average_precisions(queries, sun.groups, both, named, aggregator, gallery)["image_ap"]
                    once = kept.splits == 1 or name in kept.rivals
                    for other in range(seed, SPLITS if once else seed + 1):
                        found.setdefault((label, sun.name), []).append(ap[held[sun.name, other]])
                    sizes[label] = size(kept, one, dim, gallery)
            del stored
            print(f"{kept.label('done')}, split {seed}", file=sys.stderr, flush=True)
        took |= {kept.label(name): times for name, times in speeds(kept.k, dim, kept.codecs).items()}
    rows, keys, wanted = [], {}, {}
    for label, bytes_each in sorted(sizes.items(), key=lambda pair: -pair[1]):
        cells: list[Any] = [label, f"{bytes_each:,.0f}"]
        for sun in asked:
            ap = np.concatenate(found[label, sun.name])
            cells.append(f"{100 * np.nanmean(ap):.1f}")
            for reference in REFERENCES:
                share = ratio_interval(ap, np.concatenate(found[reference, sun.name]))
                cells.append(f"{share[0]:.3f} ({share[1]:.3f}–{share[2]:.3f})")
            if label not in LIMITS:
                continue
            for reference in REFERENCES:
                key = f"{label}, {sun.name}, of {reference}"
                keys[key] = ratio_of(found, label, reference, sun.name)
                wanted[key] = f"at least {LIMITS[label][1]}"
        if label in LIMITS:
            keys[f"{label}, bytes"] = bytes_each
            wanted[f"{label}, bytes"] = f"at most {LIMITS[label][0]:,}"
            keys[f"{label}, times the einsum"] = took[label]
            wanted[f"{label}, times the einsum"] = "at least 3"
        cells.append(f"{took[label]:.1f}" if label in took else "")
        rows.append(cells)
    heads = [text for sun in asked for text in (f"{sun.name} mAP", "of plain fp16", "of whitened fp16")]
    show(
        Report(
            title="Bytes an image",
            columns=("tokens", "bytes", *heads, "einsum ×"),
            rows=rows,
            keys=keys,
            wanted=wanted,
            notes=(
                f"{len(gallery.items):,} views, "
                + ", ".join(f"{len(sun.rows)} {sun.name}" for sun in asked)
                + f" queries; {SPLITS} splits of regions, one fit where a reference or a rival is learnt.",
            ),
        ),
        options,
        torch=torch.__version__,
        numpy=np.__version__,
    )


def ratio_of(found: dict[tuple[str, str], list[Any]], label: str, reference: str, sun: str) -> float:
    return ratio_interval(np.concatenate(found[label, sun]), np.concatenate(found[reference, sun]))[0]


if __name__ == "__main__":
    main()
