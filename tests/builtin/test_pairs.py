"""Consumer `pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from crater_ray.builtin.pairs import Pairs
from crater_ray.errors import UserError
from crater_ray.plugins import Consumer, Index, registry


def images(count: int) -> Index:
    """Pairs come from the neighbour table; of the index it matters how many images it has."""
    return cast("Index", range(count))


def dataset(rows: list[tuple[str, int, str, float]]) -> ds.Dataset:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    types = (pa.string(), pa.int32(), pa.string(), pa.float32())
    names = ("query_id", "rank", "id", "score")
    return ds.dataset(
        pa.table(
            {
                name: pa.array(list(values), kind)
                for name, values, kind in zip(names, columns, types, strict=True)
            }
        )
    )


def test_pairs_are_unordered_unique_sorted_and_without_self(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        (f"{query}.jpg", rank, f"{generator.integers(30)}.jpg", 0.5)
        for query in range(30)
        for rank in range(1, 9)
    ]
    path = Pairs(top=5)(images(30), dataset(rows), tmp_path / "out")
    expected = sorted({tuple(sorted((one, hit))) for one, rank, hit, _ in rows if rank <= 5 and one != hit})
    assert path == tmp_path / "out" / "pairs.txt"
    assert path.read_text().splitlines() == [f"{first} {second}" for first, second in expected]
    assert path.read_text().endswith("\n")
    assert list(path.parent.iterdir()) == [path]


def test_no_neighbours_give_an_empty_file(tmp_path: Path) -> None:
    assert Pairs(10)(images(1), dataset([]), tmp_path).read_text() == ""


@pytest.mark.parametrize(
    "sign", [" ", "\t", "\u00a0", "\u202f", "\u3000", "\u2028", "\u0085", "\x1c", "\n"], ids=ascii
)
def test_every_kind_of_white_space_is_refused(tmp_path: Path, sign: str) -> None:
    for id in (f"a{sign}b.jpg", f"{sign}a.jpg", f"a.jpg{sign}"):
        with pytest.raises(UserError, match="has white space, where COLMAP and hloc split a pair"):
            Pairs(1)(images(2), dataset([(id, 1, "c.jpg", 1.0)]), tmp_path)


def test_a_line_never_begins_as_a_comment(tmp_path: Path) -> None:
    rows = [("#a.jpg", 1, "b.jpg", 1.0), ("b.jpg", 1, "c#.jpg", 1.0)]
    assert Pairs(1)(images(3), dataset(rows), tmp_path).read_text() == "b.jpg #a.jpg\nb.jpg c#.jpg\n"
    with pytest.raises(UserError, match=r"ids '#a\.jpg' and '#b\.jpg' both begin with '#'"):
        Pairs(1)(images(3), dataset([("#b.jpg", 1, "#a.jpg", 1.0)]), tmp_path)


def test_more_neighbours_than_the_table_has_are_refused(tmp_path: Path) -> None:
    rows = [(f"{a}", rank, f"{(a + rank) % 12}", 1.0) for a in range(12) for rank in (1, 2, 3)]
    with pytest.raises(
        UserError, match=r"\[consume\.pairs\] top = 4, .* has 3 an image; set \[neighbours\] top = 4"
    ):
        Pairs(4)(images(12), dataset(rows), tmp_path)
    assert Pairs(20)(images(4), dataset(rows), tmp_path).exists()  # three others is all there are


@pytest.mark.parametrize(
    "row", [("a b.jpg", 1, "c.jpg", 1.0), ("c.jpg", 1, "a b.jpg", 1.0), ("a b.jpg", 1, "a c.jpg", 1.0)]
)
def test_white_space_in_an_id_is_refused_and_what_was_there_is_kept(tmp_path: Path, row: Any) -> None:
    (tmp_path / "pairs.txt").write_text("old\n")
    with pytest.raises(UserError, match=r"id 'a [bc].jpg' has white space"):
        Pairs(10)(images(2), dataset([row]), tmp_path)
    assert (tmp_path / "pairs.txt").read_text() == "old\n"


def test_white_space_beyond_the_top_does_no_harm(tmp_path: Path) -> None:
    rows = [("a", 1, "b", 1.0), ("a", 2, "c d", 0.5)]
    assert Pairs(1)(images(3), dataset(rows), tmp_path).read_text() == "a b\n"


def test_it_is_reached_through_the_registry() -> None:
    consumer = registry().build(registry().ref("consumer", "pairs", {"top": 3}))
    assert isinstance(consumer, Consumer)
    assert consumer.top == 3
