"""What `crater-ray query` does: files and ids in, ranked hits and a contact sheet out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crater_ray.errors import QueryError
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index, open_index
from crater_ray.types import Hit, TokenPair

if TYPE_CHECKING:
    from crater_ray.sheet import SheetRow

SHEET_HITS = 5
SHEET_LINES = 10  # the best pairs of tokens of each hit are drawn


def ask(
    root: Path,
    images: Sequence[Path],
    ids: Sequence[str],
    request: SearchRequest,
    *,
    sheet: Path | None = None,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """One answer a query, in the order given, each searched as `request` says.

    Raises QueryError for a file that cannot be read or is no image.
    """
    from crater_ray.sheet import draw

    index = open_index(root, request.version, device=device)
    told = {
        **request.described(),
        "index": {"name": root.name, "version": index.snapshot.version.number},
    }
    shown = replace(request, explain=request.explain or sheet is not None)
    answers: list[dict[str, Any]] = []
    rows = []
    for name, file in [*((str(path), path) for path in images), *((id, None) for id in ids)]:
        picture = None if file is None else _picture(index, file)
        one = replace(shown, id=name) if picture is None else replace(shown, image=picture)
        hits = index.search(one)
        answers.append({"query": name, **told, "hits": [_plain(hit, request.explain) for hit in hits]})
        if sheet is not None:
            drawn = index.image(name) if picture is None else picture
            rows.append(sheet_row(index, drawn, name if file is None else file.name, hits))
    if sheet is not None:
        draw(rows, sheet, title=f"{root.name}, mode {request.mode}")
    return answers


def as_text(answers: Sequence[dict[str, Any]]) -> str:
    """A table for each query."""
    lines = []
    for answer in answers:
        lines.append(f"{answer['query']} ({described(answer)})")
        for hit in answer["hits"]:
            lines.append(f"{hit['rank']:>4}  {hit['score']:.4f}  {hit['id']}  ({hit['group']})")
            pairs = hit.get("explanation", [])
            lines += [
                f"          token {pair['query_token']:>3} -> {pair['gallery_token']:>3}  "
                f"{pair['similarity']:.3f}"
                for pair in pairs[:SHEET_LINES]
            ]
            if len(pairs) > SHEET_LINES:
                lines.append(f"          the best {SHEET_LINES} of {len(pairs)} pairs; --json prints all")
            if hit.get("explanation") == []:
                lines.append("          no pairs of tokens make up this score")
        if not answer["hits"]:
            lines.append("      no hits: the index has no other item, or none passes the filters")
    return "\n".join(lines)


def described(answer: dict[str, Any]) -> str:
    """How an answer was asked for, as people write it."""
    told = f"{answer['mode']}"
    if answer["candidates"] is not None:
        told += f", {answer['candidates']} candidates"
    if answer["expand"]:
        told += f", expanded by {answer['expand']}"
    return f"{told}, version {answer['index']['version']}"


def sheet_row(
    index: Index,
    picture: np.ndarray[Any, Any],
    label: str,
    hits: Sequence[Hit],
    relevant: Collection[str] | None = None,
) -> SheetRow:
    """One query and its hits with the best pairs of tokens; `relevant` groups are framed as correct."""
    from crater_ray.sheet import SheetHit, SheetRow

    here = index.local.places(picture, "query")
    shown = []
    for hit in hits[:SHEET_HITS]:
        image = index.image(hit.id)
        there = index.local.places(image, "gallery")
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


def _picture(index: Index, path: Path) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8 of a file. Raises QueryError."""
    try:
        return index.pixels(path.read_bytes())
    except OSError as error:
        raise QueryError(f"cannot read the query image {path}: {error.strerror or error}") from None
    except QueryError as error:
        raise QueryError(f"{path}: {error.message}") from None


def _plain(hit: Hit, explain: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {"rank": hit.rank, "id": hit.id, "group": hit.group, "score": round(hit.score, 6)}
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
