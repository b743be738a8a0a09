"""Paths of a job file made absolute: files, and what GDAL names inside of a file or an archive."""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"[a-z][a-z0-9+]+:/|/vsi|vrt:/")
_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip|7z|rar)/|(?:zip|tar|gzip):/)/?(?!vsi|/?vsi)(.+)", re.DOTALL)
_DATASET = re.compile(r'([A-Za-z][A-Za-z0-9_]+:(?:[^":/]*:)?)"([^"]+)"(.*)', re.DOTALL)  # NETCDF:"a.nc":band


def absolute(path: str | Path, base: Path) -> Path:
    """`path` with ~ expanded, against `base` when relative; an address such as s3://bucket/x as it is.

    So is the archive of /vsizip/a.zip/b.tif and zip://a.zip!b.tif, and the file of NETCDF:"a.nc":band.
    """
    text, base = str(path), base.absolute()
    if archive := _ARCHIVE.fullmatch(text):
        inner = archive[2]
        inside = Path(inner.split("!")[0])
        return Path(archive[1] + _root(inside, base) + inner)
    if _ADDRESS.match(text):
        return Path(path)
    if (dataset := _DATASET.fullmatch(text)) and not (base / text).exists():
        file = absolute(dataset[2], base)
        return Path(f'{dataset[1]}"{file}"{dataset[3]}')
    if ":" in text and not (base / text).exists():
        steps = text.split(":")  # GTIFF_DIR:2:a.tif, NETCDF:a.nc:band
        for number, step in enumerate(steps):
            if number and step and (base / step).is_file():
                steps[number] = str(base / step)
                return Path(":".join(steps))
    return base / Path(path).expanduser()


def _root(inside: Path, base: Path) -> str:
    """What stands before the path of an archive, whose own slash pathlib has made one: / or base/."""
    for root in (Path("/"), base):
        if any((root / one).is_file() for one in (inside, *inside.parents)):
            return f"{root}/" if root != Path("/") else "/"
    return f"{base}/"
