"""Backbones under any sun, frozen and trained, on the same views: by one vector and by late interaction.

    python benchmarks/any_sun.py benchmarks/moon_box.toml --sun any \
        --sun near:queries.query_azimuth=[225.0,315.0] --backbone trained=artefacts/moon/model \
        [--backbone NAME=FOLDER …] [--trained-alone] [--joined] [--queries 1153] [--json]

Tokens come from the job's cache, encoded once where they are missing. Tokens are int8, every query is scored
against every view; relevant are the crater's own views. Intervals are 95 % bootstraps, craters drawn whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from held_out import SAMPLE, Way, average_precisions, blocks, coded, fitted, suns
from table import Report, arguments, show

FROZEN = "frozen"
ONE = "one vector"
JOINED = "Joined: asked again with its first hit's tokens among its own (`--expand 1`)."


def ways(folder: Path | None) -> list[Way]:
    """What is measured of a backbone: trained ones have a vector of their own."""
    one = Way(ONE, "cls", {}, 0)
    if folder is not None:
        one = Way(ONE, "cls_mean", {"path": str(folder)}, 0)
    spread = {"k": 32, "seeds": "farthest"}
    return [
        one,
        Way("K = 16", "instance_tokens", {"k": 16}, 0),
        Way("K = 64", "instance_tokens", {"k": 64}, 0),
        Way("whitened, farthest, K = 32", "whitened_tokens", {"of_options": spread}),
    ]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("job", type=Path, help="a job with [queries] and a frozen backbone")
    parser.add_argument("--sun", action="append", help="NAME[:override;…] of the job, again for another")
    parser.add_argument("--backbone", action="append", default=[], help="NAME=FOLDER of a trained model")
    parser.add_argument("--queries", type=int, default=100_000, help="asked under each sun at most")
    parser.add_argument("--trained-alone", action="store_true", help="leave the frozen backbone out")
    parser.add_argument("--joined", action="store_true", help="trained ones also joined by the first hit")
    options = parser.parse_args()
    import torch

    from crater_ray.bench.metrics import interval
    from crater_ray.search.codecs import codec

    torch.set_num_threads(options.threads)
    trained = dict(text.split("=", 1) for text in options.backbone)
    table: list[list[Any]] = []
    keys: dict[str, float] = {}
    first = [] if options.trained_alone else [(FROZEN, None)]
    for label, place in [*first, *trained.items()]:
        folder = None if place is None else Path(place).resolve()
        named = [_with(sun, label, folder, options.job) for sun in options.sun or ["job"]]
        gallery, found = suns(options.job, named, options.queries)
        learn = {f"{lat} {lon}" for lat in range(-3, 3) for lon in range(-6, 6) if lon not in (2, 3)}
        for way in ways(folder):
            aggregator = fitted(way, gallery, learn if way.splits else None)
            [kept] = coded(aggregator, gallery, [codec("int8")])
            size = codec("int8").record_bytes(aggregator.k, aggregator.dim) + 4
            asked = [np.concatenate(list(blocks(aggregator, s.cached, "query", s.rows))) for s in found]
            for expand in (0, 1) if folder and options.joined else (0,):
                told = f"{way.label}, joined by its first hit" if expand else way.label
                row: list[Any] = [label, told, size]
                craters: list[str] = []
                for sun, queries in zip(found, asked, strict=True):
                    ap = average_precisions(queries, sun.groups, kept, "int8", aggregator, gallery, expand)
                    here = interval(ap["image_ap"], clusters=sun.groups)
                    row.append(f"{here.mean:.3f} ({here.low:.3f}–{here.high:.3f})")
                    craters.append(f"{np.nanmean(ap['id_ap']):.3f}")
                    keys[f"{label}, {told}, {sun.name}"] = here.mean
                table.append(row + craters)
    count = ", ".join(f"{len(sun.rows):,} queries {sun.name}" for sun in found)
    show(
        Report(
            title="A frozen backbone and trained ones: mAP of held-out craters",
            columns=(
                "backbone",
                "representation",
                "bytes",
                *(f"mAP {sun.name}" for sun in found),
                *(f"craters {sun.name}" for sun in found),
            ),
            rows=table,
            keys=keys,
            notes=(
                f"{len(gallery.items):,} views, {count}; int8, every view scored.",
                *([JOINED] if options.joined else []),
                "Craters: mAP over craters in place of views, each where its best view stands.",
                f"Whitening is fitted on {SAMPLE} views from other longitudes.",
            ),
        ),
        options,
        torch=torch.__version__,
    )


def _with(sun: str, label: str, folder: Path | None, job: Path) -> str:
    """The sun's overrides and those that name a trained backbone, with an index of its own weights."""
    if folder is None:
        return sun
    import xxhash

    from crater_ray.config import load_job

    weights = xxhash.xxh3_64_hexdigest((folder / "backbone.safetensors").read_bytes())[:8]

    frozen = load_job(job)
    cache = frozen.backbone.cache
    table = [f"name={json.dumps('trained')}", f"path={json.dumps(str(folder))}"]
    table += [f"cache={json.dumps(str(cache))}"] if cache else []
    out = json.dumps(f"{frozen.out}-{label}-{weights}")
    name, mark, overrides = sun.partition(":")
    return f"{name}:{overrides}{';' if mark else ''}backbone={{{', '.join(table)}}};out={out}"


if __name__ == "__main__":
    main()
