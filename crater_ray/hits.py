"""Hits of one query: a list, a table in text and in HTML, a data frame, points of a map, a sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa

from crater_ray.bodies import body_name, distance_km, radius_km
from crater_ray.errors import CraterRayError, QueryError
from crater_ray.request import SearchRequest
from crater_ray.types import Hit, TokenPair, place_of

if TYPE_CHECKING:
    import pandas as pd
    from geopandas import GeoDataFrame
    from PIL.Image import Image
    from rich.table import Table

    from crater_ray.retrieve import Index
    from crater_ray.sheet import SheetRow

SHEET_HITS = 5
SHEET_LINES = 10  # the best pairs of tokens of each hit are drawn
THUMBNAIL, THUMBNAILS = 96, 50  # pixels, and how many hits have one
NONE = "no hits: the index has no other item, or none passes the filters"


class Hits(list[Hit]):
    """The hits of one query, best first. `source` and `request` say where they come from, and how."""

    def __init__(
        self, hits: Iterable[Hit] = (), source: Index | None = None, request: SearchRequest | None = None
    ) -> None:
        super().__init__(hits)
        self.source, self.request = source, request or SearchRequest()
        own: Mapping[str, Any] = {}
        if source is not None and self.request.id is not None:
            (own,) = source.local.columns(np.array([source.row(self.request.id)]))
        near, place = self.request.near, self.request.place
        if source is not None and place is not None:
            body = place.body or next(iter(source.local.bodies()), None)  # one, or `cut` had refused
            own = {"lat": place.lat, "lon": place.lon, "body": body}
        self._place, self._body = place_of(own), body_name(own.get("body"))
        self._anywhere = self._place is None and near is not None  # `near` is a place of every body
        if self._place is None and near is not None:
            self._place = near.lat, near.lon

    @overload
    def __getitem__(self, at: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> Hits: ...

    def __getitem__(self, at: SupportsIndex | slice) -> Hit | Hits:
        if isinstance(at, slice):
            return Hits(super().__getitem__(at), self.source, self.request)
        return super().__getitem__(at)

    # places

    def distance_km(self, hit: Hit) -> float | None:
        """On the ground from the query's own place, or without one from that of `near`; None where unknown.

        Unknown too: from a query item on another body than the hit's, or on none that is named.
        """
        body, place = body_name(hit.columns.get("body")), hit.place
        radius = radius_km(body)
        if self._place is None or place is None or radius is None:
            return None
        if not self._anywhere and self._body != body:
            return None
        lat, lon = np.array([place[0]]), np.array([place[1]])
        return float(distance_km(*self._place, lat, lon, radius)[0])

    def to_arrow(self) -> pa.Table:
        """A row a hit: rank, score, id, group, the reader's columns; distance_km where the query has a place.

        A reader's column that is called as one of these, but for its case, is `item_…` here.
        """
        from crater_ray.tables import renamed

        names = list(dict.fromkeys(name for hit in self for name in hit.columns))
        schema = None if self.source is None else self.source.local.schema
        if schema is not None:
            names = schema.names
        columns: dict[str, pa.Array] = {
            "rank": pa.array([hit.rank for hit in self], pa.int64()),
            "score": pa.array([round(hit.score, 6) for hit in self], pa.float64()),
            "id": pa.array([hit.id for hit in self], pa.string()),
            "group": pa.array([hit.group for hit in self], pa.string()),
        }
        for name, shown in zip(names, renamed(names), strict=True):
            kind = None if schema is None else schema.field(name).type
            columns[shown] = pa.array([hit.columns.get(name) for hit in self], kind)
        if self._place is not None:
            away = (self.distance_km(hit) for hit in self)
            columns["distance_km"] = pa.array(
                [None if one is None else round(one, 3) for one in away], pa.float64()
            )
        return pa.table(columns)

    @property
    def bodies(self) -> list[str]:
        """That they lie on, in small letters; without hits those that the filters let through."""
        if self or self.source is None:
            found = [body_name(hit.columns.get("body")) for hit in self]
        else:
            return self.source.local.bodies(self.request.filters)
        return list(dict.fromkeys(body for body in found if body is not None))

    def to_pandas(self) -> pd.DataFrame:
        """A row a hit. Raises QueryError without pandas."""
        from crater_ray.tables import frame

        return frame(self.to_arrow())

    def to_geodataframe(self) -> GeoDataFrame:
        """As `to_pandas`, each hit a point of its body's IAU coordinates; of several bodies without a CRS.

        Raises QueryError without geopandas, and for hits without `lat` and `lon`.
        """
        from crater_ray.tables import points

        return points(self.to_arrow(), self.bodies)

    def save(self, path: str | Path) -> Path:
        """The path of a table of them: .csv, .parquet, .geojson or .gpkg. Raises UserError."""
        from crater_ray.tables import write

        return write(Path(path), self.to_arrow(), bodies=self.bodies)

    # pictures

    def show(self, path: str | Path | None = None) -> Image:
        """The query beside its first hits with matched tokens joined, as an image; also into a PNG at `path`.

        In mode shortlist-only nothing is joined. Raises QueryError for an image that cannot be read.
        """
        from PIL import Image

        from crater_ray.sheet import draw, png

        index, how = self._opened(), self.request
        explained = any(hit.explanation for hit in self)
        hits = self if explained or not how.by_tokens else index.search(replace(how, explain=True))
        row = sheet_row(index, self.picture(), self._name, hits)
        title = f"{index.root.name}, mode {how.mode}"
        if path is not None:
            draw([row], path, title=title)
        return Image.open(io.BytesIO(png([row], title=title)))

    def _opened(self) -> Index:
        if self.source is None:
            raise QueryError("these hits do not say of which index they are; ask by open_index(…).search(…)")
        return self.source

    @property
    def _name(self) -> str:
        place = self.request.place
        return self.request.id or ("query" if place is None else place.in_words())

    def picture(self) -> np.ndarray[Any, Any]:
        """(H, W, 3) uint8 of the query. Raises QueryError for an image that cannot be read."""
        index, how = self._opened(), self.request
        if how.image is not None:
            return index.pixels(how.image)
        if how.place is not None:
            return index.cut(how.place)
        if how.id is None:
            raise QueryError("these hits do not say what was asked; ask by open_index(…).search(…)")
        return index.image(how.id)

    # what is shown of them

    def described(self) -> str:
        """How they were asked for, as people write it."""
        told = self.request.in_words()
        return told if self.source is None else f"{told}, version {self.source.snapshot.version.number}"

    def cells(self) -> list[tuple[str, ...]]:
        """The table that people read, its header first."""
        columns = {name: None for hit in self for name in hit.columns}
        width = next((name for name in columns if name.startswith("diameter")), None)
        shown = [name for name in ("body", "lat", "lon", width) if name is not None and name in columns]
        away = [self.distance_km(hit) for hit in self]
        header = ["rank", "score", "id"]
        grouped = any(hit.group != hit.id for hit in self) and not shown
        header += ["group"] if grouped else []
        header += shown + (["distance_km"] if any(one is not None for one in away) else [])
        rows = [tuple(header)]
        for hit, distance in zip(self, away, strict=True):
            cells = [str(hit.rank), f"{hit.score:.4f}", hit.id, *([hit.group] if grouped else [])]
            cells += [_cell(hit.columns.get(name)) for name in shown]
            cells += [_cell(distance)] if header[-1] == "distance_km" else []
            rows.append(tuple(cells))
        return rows

    def as_text(self) -> str:
        """The table, each column as wide as it must be."""
        if not self:
            return NONE
        rows = self.cells()
        numbers = [name not in ("id", "group", "body") for name in rows[0]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for cells in rows:
            aligned = [
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(cells, widths, numbers, strict=True)
            ]
            lines.append("  ".join(aligned).rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Hits ({self.described()})\n{self.as_text()}"

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        header, *rows = self.cells()
        table = Table(title=self.described(), title_justify="left")
        for name in header:
            table.add_column(name, justify="left" if name in ("id", "group", "body") else "right")
        for cells in rows:
            table.add_row(*(Text(cell) for cell in cells))
        return table

    def _repr_html_(self) -> str:
        header, *rows = self.cells()
        pictures = [self._thumbnail(hit.id) for hit in self[:THUMBNAILS]] if self.source is not None else []
        pictures += [""] * (len(rows) - len(pictures))
        asked = self._thumbnail(None) if self.source is not None else ""
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *header))
        body = "".join(
            f"<tr><td>{picture}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
            for picture, cells in zip(pictures, rows, strict=True)
        )
        name = escape(self._name)
        return f"<p>{asked} {name} ({escape(self.described())})</p>" + (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            if self
            else f"<p>{NONE}</p>"
        )

    def _thumbnail(self, id: str | None) -> str:
        """An image as HTML; of the query for None. Where it cannot be read, nothing."""
        from PIL import Image

        index = self._opened()
        try:
            pixels = self.picture() if id is None else index.image(id)
        except CraterRayError:
            return ""
        small = Image.fromarray(pixels)
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        encoded = io.BytesIO()
        small.save(encoded, "PNG")
        data = base64.b64encode(encoded.getvalue()).decode()
        return f'<img src="data:image/png;base64,{data}" width="{small.width}" height="{small.height}">'


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def sheet_row(
    index: Index,
    picture: np.ndarray[Any, Any],
    label: str,
    hits: Sequence[Hit],
    relevant: Collection[str] | None = None,
) -> SheetRow:
    """One query and its hits with the best pairs of tokens; `relevant` groups are framed as correct."""
    from crater_ray.sheet import SheetHit, SheetRow

    here = index.local.places(picture, "query") if any(hit.explanation for hit in hits) else None
    shown = []
    for hit in hits[:SHEET_HITS]:
        image = index.image(hit.id)
        there = index.local.places(image, "gallery") if hit.explanation else None
        correct = None if relevant is None else hit.group in relevant
        shown.append(SheetHit(image, hit.id, hit.score, correct, _lines(hit.explanation, here, there)))
    return SheetRow(picture, label, shown)


def _lines(
    pairs: Sequence[TokenPair], here: np.ndarray[Any, Any] | None, there: np.ndarray[Any, Any] | None
) -> list[tuple[tuple[float, float], tuple[float, float], float]]:
    if here is None or there is None:
        return []
    return [
        (
            (float(here[pair.query_token][0]), float(here[pair.query_token][1])),
            (float(there[pair.gallery_token][0]), float(there[pair.gallery_token][1])),
            pair.similarity,
        )
        for pair in pairs[:SHEET_LINES]
    ]
