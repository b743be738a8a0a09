"""Rasters, through the reader mosaic's Raster and one view of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inputs.row import Row

SIDE = 160
MOON = "+proj=longlat +R=1737400 +no_defs"
VALUES = (np.indices((SIDE, SIDE)).sum(0) % 150 + 50).astype(np.float32)


def write(path: Path, values: np.ndarray, **more: Any) -> Path:
    import rasterio
    from rasterio.transform import Affine

    bands = values if values.ndim == 3 else values[None]
    where = {"crs": MOON, "transform": Affine(0.125, 0, -10, 0, -0.125, 10), "driver": "GTiff"} | more
    with rasterio.open(
        path, "w", width=bands.shape[2], height=bands.shape[1], count=len(bands), dtype=bands.dtype, **where
    ) as file:
        file.write(bands)
    return path


def view(path: Path, at: tuple[float, float] = (0.0, 0.0), **options: Any) -> None:
    from crater_ray_mosaic.pose import Pose
    from crater_ray_mosaic.raster import Raster
    from crater_ray_mosaic.rendering import Rendering
    from crater_ray_mosaic.view import render

    assert render(Raster(path, **options), Pose(*at, 150.0), Rendering(size=64)).std() > 10


def _row(form: str, answer: str, values: np.ndarray, name: str = "x.tif", **more: Any) -> Row:
    return Row(form, answer, lambda folder: view(write(folder / name, values, **more)))


def _holes(dtype: str, value: float) -> np.ndarray:
    values = VALUES.astype(dtype)
    values[::9, ::9] = value
    return values


def _cut(folder: Path) -> None:
    path = write(folder / "x.tif", VALUES, compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[:-3000])
    view(path)


def _missing_tile(folder: Path) -> None:
    source = (
        '<SimpleSource><SourceFilename relativeToVRT="1">gone.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource>"
    )
    path = folder / "m.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>{MOON}</SRS>'
        "<GeoTransform>-10,0.125,0,10,0,-0.125</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand></VRTDataset>'
    )
    view(path)


ROWS = (
    *(
        _row(f"GeoTIFF, {kind}", "read", VALUES.astype(kind))
        for kind in ("uint8", "int16", "uint16", "float32")
    ),
    _row("uint32, int32, float64 with a large offset", "read", VALUES.astype(np.uint32) + 4_000_000_000),
    _row("ISIS cube", "read", VALUES.astype(np.int16), "x.cub", driver="ISIS3"),
    _row(
        "ISIS special pixels (NULL, LRS, LIS, HIS, HRS)",
        "read: no data",
        _holes("int16", -32764),
        "x.cub",
        driver="ISIS3",
    ),
    _row(
        "declared no data, also nearly equal",
        "read: no data",
        _holes("float32", -3.4028226550889045e38),
        nodata=-3.40282e38,
    ),
    _row("undeclared -32768, -9999, -1e32, NaN", "read: no data", _holes("float32", -9999)),
    Row("truncated or corrupt tile", "cannot read x.tif", _cut),
    Row("VRT with a missing tile", "gone.tif: No such file or directory", _missing_tile),
    Row("no file", "does not exist", lambda folder: view(folder / "none.tif")),
)
