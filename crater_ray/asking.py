"""Commands that ask an index: one query, every item's neighbours, a job's own queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crater_ray.errors import QueryError
from crater_ray.options import (
    address_option,
    device_option,
    examples,
    file_path,
    filter_options,
    index_argument,
    job_argument,
    json_option,
    overrides_option,
    search_options,
    sheet_option,
    show,
    top_option,
    unused,
    version_option,
)

if TYPE_CHECKING:
    from crater_ray.request import SearchRequest


@click.command(
    epilog=examples(
        "query moon.toml photo.png --sheet answer.png",
        "query indexes/moon photo.png --near -43.3,-11.4,200 --filter 'diameter_km>=20'",
        "query indexes/moon --id H00139_x3 --top 50 --out hits.gpkg",
        "query indexes/moon --place -43.3,-11.4,85",
        "query indexes/moon mosaic.png --crop 1200,800,300,300",
    )
)
@index_argument
@click.argument("images", nargs=-1, type=file_path)
@click.option("--id", "ids", multiple=True, help="Query with an item of the index; may be given again.")
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="LAT,LON,KM[,BODY]",
    help="Query with a crater of that diameter at a place of the index's own raster; may be given again.",
)
@click.option("--crop", metavar="X,Y,W,H", help="Query with that window of IMAGES, in pixels.")
@top_option
@search_options("shortlist")
@filter_options
@click.option(
    "--explain",
    is_flag=True,
    help="Which pairs of tokens each score is made of; not with --mode shortlist-only.",
)
@version_option
@click.option(
    "--out", type=file_path, help="Write the hits as a table, by its suffix: .csv, .parquet, .geojson, .gpkg."
)
@sheet_option
@device_option
@json_option
def query(
    index: Path,
    images: Sequence[Path],
    ids: Sequence[str],
    places: Sequence[str],
    crop: str | None,
    request: SearchRequest,
    out: Path | None,
    sheet: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Find what looks like IMAGES in an index."""
    from crater_ray.query import as_json as plain
    from crater_ray.query import as_text, ask
    from crater_ray.request import parse_crop, parse_place

    if not (images or ids or places):
        raise click.UsageError("name an image file, an item with --id, or a place with --place")
    if not images:
        unused("no image is named", "crop")
    if not (images or places) and sheet is None:
        unused("an item of the index is encoded already", "device")
    try:
        asked = [parse_place(text) for text in places]
        window = None if crop is None else parse_crop(crop)
    except QueryError as error:
        raise click.UsageError(f"--{error}") from None
    answers = ask(index, images, ids, request, places=asked, crop=window, out=out, sheet=sheet, device=device)
    show(plain(answers, request.explain), as_json, lambda: as_text(answers, request.explain))


@click.command(epilog=examples("neighbours indexes/moon --top 5 --filter body=moon --out near.parquet"))
@index_argument
@top_option
@search_options("shortlist")
@filter_options
@click.option("--out", type=file_path, required=True, help="A Parquet file to write.")
@address_option
@json_option
def neighbours(index: Path, request: SearchRequest, out: Path, address: str | None, as_json: bool) -> None:
    """Write every item's nearest neighbours as a table: query_id, rank, id, score.

    With --filter, --box or --near: of the items that pass, among themselves.
    """
    from crater_ray.config import ClusterTable
    from crater_ray.jobs.neighbours import run

    report = run(index, request, out, ClusterTable(address=address))
    show(report.as_dict(), as_json, report.as_text)


@click.command(
    epilog=examples(
        "evaluate moon.toml", "evaluate moon.toml --mode shortlist --candidates 100 --sheet sheet.png"
    )
)
@job_argument
@search_options("exact")
@filter_options
@click.option("--run", "run_file", type=file_path, help="Write the rankings as a TREC run.")
@click.option("--qrels", type=file_path, help="Write the relevance as TREC qrels.")
@click.option(
    "--depth", type=click.IntRange(1), help="Ranks kept of each query; the whole gallery if left out."
)
@sheet_option
@json_option
@overrides_option
def evaluate(
    job: Path,
    request: SearchRequest,
    run_file: Path | None,
    qrels: Path | None,
    depth: int | None,
    sheet: Path | None,
    as_json: bool,
    overrides: Sequence[str],
) -> None:
    """Score a job's index, made where there is none, with its [queries]: mAP, hit, recall, bytes, seconds."""
    from crater_ray.config import load_job
    from crater_ray.evaluation.evaluate import run

    report = run(load_job(job, overrides), request, run_file=run_file, qrels=qrels, depth=depth, sheet=sheet)
    show(report.as_dict(), as_json, report.as_text)
