"""A catalogue's file to craters."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crater_ray.errors import ReaderError
from crater_ray_mosaic.catalogue.conventions import Conventions
from crater_ray_mosaic.catalogue.craters import Catalogue
from crater_ray_mosaic.catalogue.ids import place_name
from crater_ray_mosaic.catalogue.measures import Body, compare, diameters, marks, places
from crater_ray_mosaic.catalogue.plausible import refuse, refuse_diameters
from crater_ray_mosaic.catalogue.presets import Columns
from crater_ray_mosaic.catalogue.source import chosen, kept
from crater_ray_mosaic.catalogue.vector import outlines


def read_catalogue(
    path: Path,
    columns: Columns,
    said: Conventions = Conventions(),  # noqa: B008  frozen
    *,
    body: Body | None = None,
    preset_west: bool | None = None,
    preset_unit: str | None = None,
    layer: str | None = None,
    drop: Mapping[str, str] | None = None,
    prefix: str = "",
) -> Catalogue:
    """Every crater of a table or a vector layer, in file order.

    Rows without a diameter (empty or 0), without geometry, and repeated rows of craters without ids are
    skipped: counted in `skipped`, and one warning says so. drop: column -> value of rows that are left out.

    Raises ReaderError for a missing file or column, cells that are not numbers or off the globe, diameters
    below 0, an id that comes twice, options that differ from headers, and numbers that cannot be of the body.
    """
    table, columns = chosen(path, columns, layer, drop or {})
    file = path.name
    keep = kept(table, drop or {})
    shape = outlines(table.layer, body.radius_km, file) if table.layer is not None and body else None
    mark = marks(table, columns, keep, file)
    lat, lon, known = places(table, columns, said, preset_west, shape, body, keep, mark, file)
    diameter, stated, widths = diameters(table, columns, said, preset_unit, shape, keep, mark, file)
    skipped: Counter[str] = Counter()
    if not known.all():
        skipped["without a point or an outline"] = int((~known).sum())
    empty = known & (np.isnan(diameter) | (diameter == 0))
    skipped["without a diameter"] = int(empty.sum())
    refuse(diameter < 0, widths, "not above 0", file)
    good = known & ~empty
    if shape is not None and columns.lat and columns.lon:
        compare(lat, lon, shape, keep, good, file)
    lat, lon, diameter = lat[good], lon[good], diameter[good]
    if columns.id:
        texts = table.text(columns.id)
        ids = [prefix + texts[row] for row in np.flatnonzero(keep)[good].tolist()]
        refuse(np.array([name == prefix for name in ids], bool), columns.id, "empty", file)
        _refuse_twice(ids, file)
    else:
        every = zip(lat.tolist(), lon.tolist(), diameter.tolist(), strict=True)
        ids = [prefix + place_name(*place) for place in every]
        first = np.zeros(len(ids), bool)
        first[list({name: row for row, name in reversed(list(enumerate(ids)))}.values())] = True
        skipped["the same crater as another row"] = int((~first).sum())
        ids = [name for name, keeps in zip(ids, first.tolist(), strict=True) if keeps]
        lat, lon, diameter = lat[first], lon[first], diameter[first]
    if body is not None:
        refuse_diameters(diameter, stated, body.radius_km, said.diameter_unit is not None, file)
    skipped = Counter({why: count for why, count in skipped.items() if count})
    if skipped:
        parts = ", ".join(f"{count:,} {why}" for why, count in skipped.items())
        warnings.warn(
            f"{file}: {skipped.total():,} of {int(keep.sum()):,} rows are skipped: {parts}", stacklevel=2
        )
    return Catalogue(ids, lat, lon, diameter, dict(skipped))


def _refuse_twice(ids: Sequence[str], file: str) -> None:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise ReaderError(
            f"{file} has {len(twice)} crater id(s) more than once, among them "
            f"{', '.join(repr(name) for name in twice[:5])}; every crater needs its own"
        )
