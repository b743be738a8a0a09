"""Runs and judgements in TREC's format, so that any outside tool can score us.

    run    query_id Q0 document_id rank score tag
    qrels  query_id 0 document_id 1

The tools ignore the rank and sort by score, each breaking ties its own way, and trec_eval keeps scores as
float32. So the scores written are strictly decreasing as float32: where ours tie, a later one is lowered to
the next number below. The order is exactly the one that was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crater_ray.errors import UserError
from crater_ray.files import refuse_out, whole_file


def write_run(
    path: str | Path, rows: Iterable[tuple[str, Iterable[tuple[str, float]]]], *, tag: str = "crater-ray"
) -> Path:
    """The path of a run file; rows yield (query id, (document id, score) best first) and are not kept.

    The order given is the ranking, whatever the scores. The file appears when it is complete.
    Raises UserError for an id that TREC's format cannot hold or a path that cannot be written, StorageFull,
    ValueError for a score that is not finite.
    """
    return _write(Path(path), _run_lines(rows, _word(tag)))


def write_qrels(path: str | Path, rows: Iterable[tuple[str, Iterable[str]]]) -> Path:
    """The path of a judgement file; rows yield (query id, ids of its relevant documents).

    A query without a relevant document leaves no line, and the tools leave it out of their means, as we do.
    Raises as `write_run`.
    """
    checked: set[str] = set()
    return _write(
        Path(path),
        (
            f"{_word(query)} 0 {_word(document, checked)} 1\n"
            for query, documents in rows
            for document in documents
        ),
    )


def strictly_decreasing(scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(n,) float32, each below the one before, as near to the scores as that allows.

    Raises ValueError for a score that is not finite.
    """
    values = np.asarray(scores, np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a run can hold finite scores only; leave out what was not retrieved")
    bits = values.view(np.int32).astype(np.int64)
    steps = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))  # float32 in order, one apart
    place = np.arange(len(values))
    steps = np.minimum.accumulate(steps + place) - place  # k_i = min(step_i, k_{i-1} - 1)
    bits = np.where(steps >= 0, steps, -steps | 0x80000000).astype(np.uint32)
    return bits.view(np.float32)


def _run_lines(rows: Iterable[tuple[str, Iterable[tuple[str, float]]]], tag: str) -> Iterator[str]:
    checked: set[str] = set()
    for query, hits in rows:
        documents, scores = [], []
        for document, score in hits:
            documents.append(document)
            scores.append(score)
        head = f"{_word(query)} Q0 "
        numbers = strictly_decreasing(np.array(scores, np.float32)).tolist()
        for rank, (document, number) in enumerate(zip(documents, numbers, strict=True), 1):
            if document not in checked:
                _word(document, checked)
            yield f"{head}{document} {rank} {number:.9g} {tag}\n"  # nine digits tell all float32 apart


def _word(text: str, checked: set[str] | None = None) -> str:
    if len(text.split()) != 1 or text != text.strip():
        raise UserError(
            f"TREC files separate fields by white space, so {text!r} cannot be an id in them; "
            "rename the item (its reader gives the id), or leave out --run and --qrels"
        )
    if checked is not None:
        checked.add(text)
    return text


def _write(path: Path, lines: Iterator[str]) -> Path:
    refuse_out(path)
    with whole_file(path) as own, own.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
    return path
