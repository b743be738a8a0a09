"""What `crater-ray query` does: files and ids in, ranked hits, tables and a contact sheet out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crater_ray.errors import QueryError
from crater_ray.files import refuse_out
from crater_ray.hits import NONE, SHEET_LINES, Hits, sheet_row
from crater_ray.request import Place, SearchRequest
from crater_ray.retrieve import Index, open_index
from crater_ray.tables import refuse_suffix, write
from crater_ray.types import Hit

Answers = Sequence[tuple[str, Hits]]  # each query's name, a file or an id, and its hits


def ask(
    root: Path,
    images: Sequence[Path],
    ids: Sequence[str],
    request: SearchRequest,
    *,
    places: Sequence[Place] = (),
    crop: tuple[int, int, int, int] | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    device: str = "cpu",
) -> Answers:
    """The hits of images, items and places in the order given, searched as `request` says.

    `crop` is a window of each image; `out` a file of rows.
    Raises QueryError for a file that cannot be read or is no image, and an `out` of an unknown suffix;
    UserError for one that cannot be written.
    """
    from crater_ray.sheet import draw

    if out is not None:
        refuse_suffix(out)
    if sheet is not None:
        refuse_out(sheet)
    index = open_index(root, request.version, device=device, download=request.mode == "exact")
    shown = replace(request, explain=request.explain or (sheet is not None and request.by_tokens))
    answers: list[tuple[str, Hits]] = []
    rows = []
    for name, one in _queries(index, shown, images, ids, places, crop):
        hits = index.search(one)
        answers.append((name, hits))
        if sheet is not None:
            label = name if one.image is None else Path(name).name
            rows.append(sheet_row(index, hits.picture(), label, hits))
    if sheet is not None:
        draw(rows, sheet, title=f"{root.name}, mode {request.mode}")
    if out is not None:
        _write(out, answers)
    return answers


def _queries(
    index: Index,
    how: SearchRequest,
    images: Sequence[Path],
    ids: Sequence[str],
    places: Sequence[Place],
    crop: tuple[int, int, int, int] | None,
) -> Iterator[tuple[str, SearchRequest]]:
    for path in images:
        yield str(path), replace(how, image=_picture(index, path, crop))
    for id in ids:
        yield id, replace(how, id=id)
    for place in places:
        yield place.in_words(), replace(how, place=place)


def _write(out: Path, answers: Answers) -> None:
    tables = []
    for name, hits in answers:
        table = hits.to_arrow()
        tables.append(table.add_column(0, "query", pa.array([name] * len(table), pa.string())))
    bodies = {body: None for _, hits in answers for body in hits.bodies}
    write(out, pa.concat_tables(tables, promote_options="default"), bodies=list(bodies))


def as_json(answers: Answers, explain: bool) -> list[dict[str, Any]]:
    """An object a query: how it was asked, and its hits."""
    return [
        {
            "query": name,
            **hits.request.described(),
            "index": {"name": hits.source.root.name, "version": hits.source.snapshot.version.number},
            "hits": [_plain(hits, hit, explain) for hit in hits],
        }
        for name, hits in answers
        if hits.source is not None
    ]


def as_text(answers: Answers, explain: bool) -> str:
    """A table for each query; with `explain` the best pairs of tokens below each hit."""
    told = []
    for name, hits in answers:
        told.append(f"{name} ({hits.described()})")
        if not hits:
            told.append(f"      {NONE}")
            continue
        header, *lines = hits.as_text().splitlines()
        told.append(header)
        for hit, line in zip(hits, lines, strict=True):
            told += [line, *(_pairs(hit) if explain else ())]
    return "\n".join(told)


def _pairs(hit: Hit) -> list[str]:
    if not hit.explanation:
        return ["          no pairs of tokens make up this score"]
    lines = [
        f"          token {pair.query_token:>3} -> {pair.gallery_token:>3}  {pair.similarity:.3f}"
        for pair in hit.explanation[:SHEET_LINES]
    ]
    if len(hit.explanation) > SHEET_LINES:
        lines.append(f"          the best {SHEET_LINES} of {len(hit.explanation)} pairs; --json prints all")
    return lines


def _picture(index: Index, path: Path, crop: tuple[int, int, int, int] | None) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8 of a file. Raises QueryError."""
    try:
        return index.pixels(path.read_bytes(), crop)
    except OSError as error:
        raise QueryError(f"cannot read the query image {path}: {error.strerror or error}") from None
    except QueryError as error:
        raise QueryError(f"{path}: {error.message}") from None


def _plain(hits: Hits, hit: Hit, explain: bool) -> dict[str, Any]:
    away = hits.distance_km(hit)
    plain: dict[str, Any] = {
        "rank": hit.rank,
        "id": hit.id,
        "group": hit.group,
        "score": round(hit.score, 6),
        "columns": {name: _safe(value) for name, value in hit.columns.items()},
        "distance_km": None if away is None else round(away, 3),
    }
    if explain:
        plain["explanation"] = [
            {
                "query_token": pair.query_token,
                "gallery_token": pair.gallery_token,
                "similarity": round(pair.similarity, 6),
                "contribution": round(pair.contribution, 9),
            }
            for pair in hit.explanation
        ]
    return plain


def _safe(value: object) -> object:
    """As JSON has it: no infinities, dates and the like as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
