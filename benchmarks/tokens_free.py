"""Tokens made better without training: whitened before they are chosen, against the paper's, byte for byte.

    python benchmarks/tokens_free.py benchmarks/moon20k.toml --sun any \
        --sun near:queries.query_azimuth=[225.0,315.0] [--k 16] [--queries 1500] [--json]

Tokens come from the job's cache (encoded once where they are missing). What is fitted is fitted on images of
half of the 30-degree fields and asked for craters of the other half, three times; the gallery stays whole.
Intervals are 95 % bootstraps of the paired difference, craters drawn whole.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from held_out import SAMPLE, Way, average_precisions, blocks, coded, fitted, region, split, suns
from table import Report, arguments, show

SPLITS, AGREED = 3, 64  # fits; queries whose top 10 is compared
BEST = "whitened, farthest"
SLUG = str.maketrans({" ": "_", ",": None, "=": None})


def ways(k: int) -> list[Way]:
    plain, spread = {"k": k}, {"k": k, "seeds": "farthest"}
    white = {"of_options": plain}
    return [
        Way("paper", "instance_tokens", plain, 0),
        Way(BEST, "whitened_tokens", {"of_options": spread}, SPLITS),
        Way("whitened", "whitened_tokens", white),
        Way("centred", "whitened_tokens", {**white, "power": 0.0}),
        Way("power 0.25", "whitened_tokens", {**white, "power": 0.25}),
        Way("farthest", "instance_tokens", spread, 0),
        Way("whitened, farthest, alone", "whitened_tokens", {"of": "topk", "of_options": spread}),
        Way("whitened cls, one vector", "whitened", {"of": "cls", "dim": 384}, sample=4 * SAMPLE),
        Way("whitened, farthest, D = 96", "whitened_tokens", {"of_options": spread, "dim": 96}),
    ]


def agreement(queries: Any, aggregator: Any, gallery: Any, codes: Any, scales: Any) -> float:
    """Share of int8's top 10 that float32 scores of fp16 tokens have at the same place."""
    from crater_ray.search.codecs import codec
    from crater_ray.search.kernel import score

    [(halves, none)] = coded(aggregator, gallery, [codec("fp16")])
    both = []
    for name, stored, sizes in (("fp16", halves, none), ("int8", codes, scales)):
        scores = score(queries, stored, sizes, codec=name, k=aggregator.k, dim=aggregator.dim)
        both.append(np.argsort(-scores, 1, kind="stable")[:, :10])
    return float((both[0] == both[1]).mean())


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("job", type=Path, help="a job with [queries]")
    parser.add_argument("--sun", action="append", help="NAME[:override;…] of the job, again for another")
    parser.add_argument("--k", type=int, default=16, help="tokens an image (default 16)")
    parser.add_argument("--queries", type=int, default=1500, help="asked under each sun at most")
    parser.add_argument("--ways", nargs="*", help="labels to measure beside the paper's (default all)")
    options = parser.parse_args()
    import torch

    from crater_ray.bench.metrics import difference_interval, interval
    from crater_ray.search.codecs import codec

    torch.set_num_threads(options.threads)
    gallery, asked = suns(options.job, options.sun or ["job"], options.queries)
    everywhere = [region(item) for item in gallery.items]
    table: list[list[Any]] = []
    keys: dict[str, float] = {}
    wanted: dict[str, str] = {}
    chosen = [way for way in ways(options.k) if not options.ways or way.label in ("paper", *options.ways)]
    for way in chosen:
        for seed in range(max(way.splits, 1)):
            started = time.perf_counter()
            learn = split(everywhere, seed) if way.splits else None
            aggregator = fitted(way, gallery, learn)
            [(codes, scales)] = coded(aggregator, gallery, [codec("int8")])
            row: list[Any] = [f"{way.label} ({seed})" if way.splits > 1 else way.label]
            row.append(codec("int8").record_bytes(aggregator.k, aggregator.dim) + 4)
            for sun in asked:
                queries = np.concatenate(list(blocks(aggregator, sun.cached, "query", sun.rows)))
                found = average_precisions(queries, sun.groups, (codes, scales), "int8", aggregator, gallery)
                ap = found["image_ap"]
                held = np.array([learn is None or name not in learn for name in sun.regions])
                paper = sun.ap.setdefault(("paper", 0), ap)
                clusters = np.array(sun.groups)[held].tolist()
                here = interval(ap[held], clusters=clusters)
                gain = difference_interval(ap[held], paper[held], clusters=clusters)
                row += [f"{100 * here.mean:.1f}", f"{100 * gain.mean:+.1f}"]
                row += [f"{100 * gain.low:+.1f} … {100 * gain.high:+.1f}"]
                label = f"{sun.name}_{way.label}_{seed}".translate(SLUG)
                keys[f"{label}_map"], keys[f"{label}_gain"] = here.mean, gain.mean
                keys[f"{label}_gain_low"] = gain.low
                if way.label == BEST:
                    wanted |= {f"{label}_gain": ">= 0.02", f"{label}_gain_low": "> 0"}
            if way.label == BEST and seed == 0:
                keys["top10_agreement"] = agreement(queries[:AGREED], aggregator, gallery, codes, scales)
            table.append([*row, f"{time.perf_counter() - started:.0f}"])
    heads = [text for sun in asked for text in (f"{sun.name} mAP", "gain", "95 %")]
    show(
        Report(
            title=f"K = {options.k}, int8, {len(gallery.items)} gallery images",
            columns=("tokens", "bytes", *heads, "s"),
            rows=table,
            keys=keys,
            wanted=wanted,
            notes=(f"mAP over queries of regions that no fit saw; {SAMPLE} images a fit.",),
        ),
        options,
        torch=torch.__version__,
        numpy=np.__version__,
    )


if __name__ == "__main__":
    main()
