"""Names that GDAL and rasterio give to what is no file of its own, as a Path carries them."""

from __future__ import annotations

import re
from pathlib import Path

_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip|7z|rar)|(?:zip|tar|gzip|file):)/(.*)", re.DOTALL)
_DATASET = re.compile(r'([A-Za-z][A-Za-z0-9_]+:(?:[^":/]*:)?)"([^"]+)"(.*)', re.DOTALL)  # NETCDF:"a.nc":band
_HDF5 = re.compile(r'(HDF5:(?:"[^"]+"|[^":]+)):/(?!/)')
_URL = re.compile(r"\b([a-z][a-z0-9+]*):/(?!/)")


def gdal_name(path: Path) -> str:
    """The name with the slashes that pathlib makes one of: /vsizip//data/a.zip/b.tif, /vsicurl/https://…"""
    text = str(path)
    if path.exists():
        return text
    found = _ARCHIVE.fullmatch(text)
    if found is None:
        return _HDF5.sub(r"\1://", _URL.sub(r"\1://", text))
    inner = found[2]
    slash = "/" if found[1].startswith("/") else "//"
    if inner.startswith("vsi"):
        return f"{found[1]}/{gdal_name(Path('/' + inner))}"
    return f"{found[1]}{slash}{'/' if container(path) else ''}{inner}"


def container(path: Path) -> Path | None:
    """The file on this machine that such a name reads from, such as an archive; None for an address."""
    text = str(path)
    found = _ARCHIVE.fullmatch(text)
    if found is None:
        dataset = _DATASET.fullmatch(text)
        steps = [dataset[2]] if dataset else text.split(":")[1:]
        return next((Path(step) for step in steps if step and Path(step).is_file()), None)
    inner = Path("/" + found[2].split("!")[0])
    return next((one for one in (inner, *inner.parents) if one.is_file()), None)
