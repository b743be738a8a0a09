"""Backbones under any sun, frozen and trained, on the same views: by one vector and by late interaction.

    python benchmarks/any_sun.py benchmarks/moon_box.toml --sun any \
        --sun near:queries.query_azimuth=[225.0,315.0] --backbone trained=artefacts/moon/model \
        [--backbone NAME=FOLDER …] [--backbone moon] [--trained-alone] [--short] [--queries 1153] [--json]

Tokens come from the job's cache, encoded once where they are missing. Tokens are int8, every query is scored
against every view; relevant are the crater's own views. Intervals are 95 % bootstraps, craters drawn whole.
Each backbone is also compared with the first one, query by query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from table import Report, arguments, show

FROZEN = "frozen"
Array = np.ndarray[Any, Any]
SAMPLE, TOGETHER = 400, 8  # images a fit sees; queries a call


@dataclass(frozen=True)
class Way:
    """A [rerank] to measure."""

    label: str
    name: str
    options: dict[str, Any]
    learns: bool = False


@dataclass(frozen=True)
class Sun:
    """The queries under one sun."""

    name: str
    cached: Any
    rows: Array  # of its items that are asked
    groups: list[str]


def ways(trained: Path | str | None, short: bool) -> list[Way]:
    """What is measured of a backbone: trained ones have a vector of their own. short: the first and last."""
    one = Way("one vector", "cls", {})
    if isinstance(trained, Path):
        one = Way("one vector", "cls_mean", {"path": str(trained)})
    elif trained is not None:
        one = Way("one vector", trained, {})
    spread = {"k": 32, "seeds": "farthest"}
    last = Way("whitened, farthest, K = 32", "whitened_tokens", {"of_options": spread}, learns=True)
    between = [Way(f"K = {k}", "instance_tokens", {"k": k}) for k in (16, 64)]
    return [one, last] if short else [one, *between, last]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("job", type=Path, help="a job with [queries] and a frozen backbone")
    parser.add_argument("--sun", action="append", help="NAME[:override;…] of the job, again for another")
    parser.add_argument(
        "--backbone",
        action="append",
        default=[],
        help="NAME=FOLDER of a trained model, or NAME of a package's",
    )
    parser.add_argument("--queries", type=int, default=100_000, help="asked under each sun at most")
    parser.add_argument("--trained-alone", action="store_true", help="leave the frozen backbone out")
    parser.add_argument("--short", action="store_true", help="one vector and 32 whitened tokens alone")
    options = parser.parse_args()
    import torch

    from crater_ray.evaluation.metrics import difference_interval, interval
    from crater_ray.search.codecs import codec

    torch.set_num_threads(options.threads)
    trained: list[tuple[str, Path | str]] = [_named(text) for text in options.backbone]
    table: list[list[Any]] = []
    keys: dict[str, float] = {}
    frozen: list[tuple[str, Path | str | None]] = [] if options.trained_alone else [(FROZEN, None)]
    every = [*frozen, *trained]
    first: dict[tuple[str, str], Array] = {}
    notes: list[str] = []
    for label, place in every:
        named = [_with(sun, label, place, options.job) for sun in options.sun or ["job"]]
        gallery, found = suns(options.job, named, options.queries)
        learn = {f"{lat} {lon}" for lat in range(-3, 3) for lon in range(-6, 6) if lon not in (2, 3)}
        for way in ways(place, options.short):
            aggregator = fitted(way, gallery, learn if way.learns else None)
            kept = coded(aggregator, gallery)
            size = codec("int8").record_bytes(aggregator.k, aggregator.dim) + 4
            asked = [np.concatenate(list(blocks(aggregator, s.cached, "query", s.rows))) for s in found]
            row: list[Any] = [label, way.label, size]
            craters: list[str] = []
            for sun, queries in zip(found, asked, strict=True):
                ap = average_precisions(queries, sun.groups, kept, aggregator, gallery)
                here = interval(ap["image_ap"], clusters=sun.groups)
                row.append(f"{here.mean:.3f} ({here.low:.3f}–{here.high:.3f})")
                craters.append(f"{np.nanmean(ap['id_ap']):.3f}")
                keys[f"{label}, {way.label}, {sun.name}"] = here.mean
                before = first.setdefault((way.label, sun.name), ap["image_ap"])
                if label != every[0][0]:
                    gain = difference_interval(ap["image_ap"], before, clusters=sun.groups)
                    notes.append(
                        f"{label} over {every[0][0]}, {way.label}, {sun.name}: {gain.mean:+.3f} "
                        f"({gain.low:+.3f} to {gain.high:+.3f})."
                    )
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
                "Craters: mAP over craters in place of views, each where its best view stands.",
                f"Whitening is fitted on {SAMPLE} views from other longitudes.",
                *notes,
            ),
        ),
        options,
        torch=torch.__version__,
    )


def suns(job_path: Path, asked: Sequence[str], count: int) -> tuple[Any, list[Sun]]:
    """The gallery's cached tokens, and each sun's: `NAME` or `NAME:override;…` of the job."""
    from crater_ray.config import load_job
    from crater_ray.evaluation.encoded import encoded

    found = []
    for text in asked:
        name, _, overrides = text.partition(":")
        gallery, queries = encoded(
            load_job(job_path, [one for one in overrides.split(";") if one]), quiet=True
        )
        rows = np.sort(np.random.default_rng(0).permutation(len(queries.items))[:count])
        found.append(Sun(name, queries, rows, [queries.items[row].group for row in rows]))
    return gallery, found


def region(item: Any) -> str:
    """The 30-degree field it lies in."""
    lat, lon = (float(item.columns[name]) for name in ("lat", "lon"))
    return f"{floor(lat / 30)} {floor(lon / 30)}"


def fitted(way: Way, gallery: Any, learn: set[str] | None) -> Any:
    """The aggregator, fitted on the gallery images of lowest hashed id in the regions `learn`."""
    from crater_ray.jobs.fit import sampled
    from crater_ray.plugins import registry

    here = registry()
    ref = here.ref("aggregator", way.name, way.options)
    built = here.build(ref, gallery.shape)
    if learn is not None and here.spec(ref).fits:
        there = (item for item in gallery.items if region(item) in learn)
        chosen = {item.id for item in sampled(there, SAMPLE)}
        rows = [row for row, item in enumerate(gallery.items) if item.id in chosen]
        built.load(built.fit((tokens for _, tokens in gallery.tokens(rows)), 0))
    return built


def blocks(aggregator: Any, cached: Any, side: str, wanted: Any = None) -> Iterator[Array]:
    """(n, K, D) float32, a batch at a time."""
    import torch

    for _, tokens in cached.tokens(wanted):
        with torch.inference_mode():
            yield aggregator(tokens, side).numpy()


def coded(aggregator: Any, gallery: Any) -> tuple[Array, Array]:
    """The gallery's int8 codes and scales."""
    from crater_ray.search.codecs import codec

    pairs = [codec("int8").encode(rows) for rows in blocks(aggregator, gallery, "gallery")]
    return np.concatenate([codes for codes, _ in pairs]), np.concatenate([scales for _, scales in pairs])


def average_precisions(
    queries: Array, groups: Sequence[str], kept: tuple[Array, Array], aggregator: Any, gallery: Any
) -> dict[str, Array]:
    """(B,) each of the exact scan of queries (B, Q, D); NaN where the gallery has nothing relevant.

    image_ap is over views, id_ap over craters, each where its best view stands.
    """
    from crater_ray.evaluation.metrics import concatenate, group_codes, relevance, score_queries
    from crater_ray.search.kernel import score
    from crater_ray_craterbench.measure import fast_float32

    held, names = group_codes([item.group for item in gallery.items])
    codes, scales = kept
    found = []
    for start in range(0, len(queries), TOGETHER):
        some = slice(start, start + TOGETHER)
        with fast_float32():
            scores = score(queries[some], codes, scales, codec="int8", k=aggregator.k, dim=aggregator.dim)
        order = np.argsort(-scores, 1, kind="stable")
        found.append(score_queries(order, relevance(held, names, [{g: 1.0} for g in groups[some]]), held))
    every = concatenate(found)
    return {name: every.get(name, np.empty(0)) for name in ("image_ap", "id_ap")}


def _named(text: str) -> tuple[str, Path | str]:
    """Its label, and the folder of a trained model or the name of a package's backbone and aggregator."""
    label, mark, folder = text.partition("=")
    return label, Path(folder).resolve() if mark else label


def _with(sun: str, label: str, trained: Path | str | None, job: Path) -> str:
    """The sun's overrides and those that name a trained backbone, with an index of its own weights."""
    if trained is None:
        return sun
    import xxhash

    from crater_ray.config import load_job
    from crater_ray.plugins import registry

    frozen = load_job(job)
    cache = frozen.backbone.cache
    if isinstance(trained, Path):
        weights = xxhash.xxh3_64_hexdigest((trained / "backbone.safetensors").read_bytes())[:8]
        table = [f"name={json.dumps('trained')}", f"path={json.dumps(str(trained))}"]
    else:
        here = registry()
        weights = here.build(here.ref("backbone", trained, {})).digest[:8]
        table = [f"name={json.dumps(trained)}"]
    table += [f"cache={json.dumps(str(cache))}"] if cache else []
    out = json.dumps(f"{frozen.out}-{label}-{weights}")
    name, mark, overrides = sun.partition(":")
    return f"{name}:{overrides}{';' if mark else ''}backbone={{{', '.join(table)}}};out={out}"


if __name__ == "__main__":
    main()
