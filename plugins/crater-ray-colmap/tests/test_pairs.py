"""Which images are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import UserError
from crater_ray.testing import FakeIndex
from crater_ray_colmap.pairs import exhaustive, first_ranks, retrieved, unordered, write


def test_retrieved_pairs_are_the_neighbours_each_once_under_their_names() -> None:
    index = FakeIndex()
    table = index.neighbours(4)
    names = {id: f"z{99 - number}.png" for number, id in enumerate(index.ids)}
    wanted = set()
    for row in table.to_table().to_pylist():
        if row["rank"] <= 3:
            wanted.add(tuple(sorted((names[row["query_id"]], names[row["id"]]))))
    assert retrieved(len(index), table, 3, names) == sorted(wanted)


def test_more_neighbours_than_the_table_has_are_refused() -> None:
    index = FakeIndex()
    names = {id: id for id in index.ids}
    with pytest.raises(UserError, match=r"top = 5.*has 4 an image; set \[neighbours\] top = 5"):
        retrieved(len(index), index.neighbours(4), 5, names)
    assert len(retrieved(len(index), index.neighbours(11), 50, names)) == 66  # it has no more


def test_every_pair() -> None:
    assert exhaustive(["b", "c", "a"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    with pytest.raises(UserError, match=r"3001 images are 4,501,500 pairs"):
        exhaustive([str(number) for number in range(3001)])


def test_the_first_ranks_take_as_many_pairs_as_asked() -> None:
    random = np.random.default_rng(0)
    names = [f"{number:02d}" for number in range(20)]
    ranks = {
        name: [str(n) for n in random.permutation([o for o in names if o != name])[:6]] for name in names
    }
    ranks["07"] = ranks["07"][:2]  # one image has fewer
    order = []  # slowly: rank by rank, query by query
    for rank in range(6):
        for query in names:
            for hit in ranks[query][rank : rank + 1]:
                pair = tuple(sorted((query, hit)))
                if pair not in order:
                    order.append(pair)
    for count in (0, 1, 17, 40, len(order), len(order) + 5):
        assert first_ranks(ranks, count) == sorted(order[:count])
    assert first_ranks({}, 3) == []


def test_pairs_survive_the_file(tmp_path: Path) -> None:
    pairs = unordered([("b", "a"), ("a", "b"), ("c", "c"), ("ä/x.jpg", "b")])
    assert pairs == [("a", "b"), ("b", "ä/x.jpg")]
    assert write(tmp_path / "pairs.txt", pairs).read_text(encoding="utf-8") == "a b\nb ä/x.jpg\n"
