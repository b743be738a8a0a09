"""What `crater-ray bench backbones` writes: a table, a CSV, and size against mAP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crater_ray.config import Job
from crater_ray.files import write_whole
from crater_ray_craterbench import figures
from crater_ray_craterbench.paper import Backbone
from crater_ray_craterbench.tokens_report import NONE, as_csv, table

Result = dict[str, Any]
COLUMNS = (
    "backbone", "pooling", "parameters", "dim", "gallery", "queries", "image_map", "low", "high", "id_map",
    "hit@1", "hit@5", "hit@10",
)  # fmt: skip


def write(
    root: Path,
    job: Job,
    results: Mapping[str, Mapping[str, Result]],
    rows: Mapping[str, Backbone | None],
    missing: Mapping[str, str],
    poolings: Sequence[str],
) -> tuple[Path, ...]:
    """The paths of backbones.md, backbones.csv and, where a backbone ran, size_map.png.

    results: backbone -> pooling -> result; rows: backbone -> its row of the paper's list.
    """
    folder = root / "bench"
    markdown, listed, picture = (folder / name for name in ("backbones.md", "backbones.csv", "size_map.png"))
    write_whole(markdown, _markdown(job, results, rows, missing, poolings).encode())
    rows_found = (result for found in results.values() for result in found.values())
    write_whole(listed, as_csv(COLUMNS, rows_found).encode())
    if not results:
        return markdown, listed
    return markdown, listed, figures.save(root, picture, _figure(job, results))


def best(found: Mapping[str, Result]) -> Result:
    """The pooling of highest mAP."""
    return max(found.values(), key=lambda result: float(result["image_map"]))


def _markdown(
    job: Job,
    results: Mapping[str, Mapping[str, Result]],
    rows: Mapping[str, Backbone | None],
    missing: Mapping[str, str],
    poolings: Sequence[str],
) -> str:
    lines = []
    for name, found in results.items():
        top, row = best(found), rows[name]
        lines.append(
            [
                name,
                f"{top['parameters']:.1f}" if top["parameters"] else NONE,
                *(f"{found[one]['image_map']:.3f}" if one in found else NONE for one in poolings),
                f"{top['pooling']}, {top['image_map']:.3f} ± {(top['high'] - top['low']) / 2:.3f}",
                (row.pooling or "unknown") if row and row.of_paper else NONE,
                f"{row.paper_map:.3f}" if row and row.paper_map is not None else NONE,
            ]
        )
    head = ["backbone", "M parameters", *poolings, "best", "paper's pooling", "paper's mAP"]
    pages = [f"# Backbones: {job.path.stem}"]
    if results:
        first = best(next(iter(results.values())))
        pages.append(
            f"Gallery: {first['gallery']} images. Queries: {first['queries']}. One vector an image, inner"
            " product in float32. Relevant are the gallery images of the groups a query names; mAP is the"
            " plain mean of image AP; ± is half the 95 % bootstrap interval (2,000 samples), the queries of"
            f" one group drawn together. Images at each model's own size, {job.backbone.precision}. The"
            " paper's columns are of the paper's own data: only their order can be compared."
        )
        pages.append(table(head, lines))
    if missing:
        pages.append("## Not run here\n\n" + "\n".join(f"- {name}: {why}" for name, why in missing.items()))
    return "\n\n".join(pages) + "\n"


def _figure(job: Job, results: Mapping[str, Mapping[str, Result]]) -> Any:
    figure, plot = figures.axes(
        f"{job.path.stem}: size against mAP", "million parameters", "mAP, best pooling"
    )
    tops = {name: best(found) for name, found in results.items() if best(found)["parameters"]}
    poolings = sorted({top["pooling"] for top in tops.values()})
    for pooling, colour in zip(poolings, figures.COLOURS, strict=False):
        points = [(top["parameters"], top) for top in tops.values() if top["pooling"] == pooling]
        figures.points(plot, points, pooling, colour, joined=False)
    for name, top in tops.items():
        place = (top["parameters"], top["image_map"])
        plot.annotate(name, place, xytext=(5, 4), textcoords="offset points", fontsize=7)
    if tops:
        plot.set_xscale("log")
        plot.legend(fontsize=8, frameon=False, title="pooling", title_fontsize=8)
    plot.margins(x=0.15)
    return figure
