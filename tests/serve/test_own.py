"""Which images of a gallery are the queries themselves: by the ids of one reader, and by their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crater_ray.evaluation.own import own
from crater_ray.retrieve import Index


def test_an_index_asked_with_its_own_items_leaves_each_out(index: Index) -> None:
    found = own(index, index)
    assert all(row in rows for row, rows in enumerate(found.rows))
    assert (found.queries, found.namesakes) == (len(index), 0)


def test_other_ids_are_told_by_pixels_and_one_id_of_two_images_stays(
    root: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = Index(root, threads=1)
    renamed = [f"other {id}" for id in index.ids]
    renamed[3] = index.ids[12]  # the id of another image
    real: Callable[[str], np.ndarray] = index.image
    monkeypatch.setattr(queries, "ids", renamed)
    monkeypatch.setattr(queries, "image", lambda id: real(index.ids[renamed.index(id)]))
    monkeypatch.setattr(queries.snapshot, "version", index.snapshot.version.__class__(9, 8, (), (), ()))
    found = own(index, queries)
    assert 3 in found.rows[3]
    assert 12 not in found.rows[3]
    assert found.namesakes == 1
    assert found.queries >= len(index) - 2  # what cannot be read has no pixels to go by
