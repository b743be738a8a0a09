"""Forms that were planted are found, places are not found twice, and classes hold what is alike."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import UserError
from crater_ray.testing import FakeIndex, check_consumer
from crater_ray_catalogue.analogues import Analogues, same_place
from crater_ray_catalogue.morphology import likeness, picked, whitened
from crater_ray_catalogue.proposals import Places, unit

Row = tuple[str, str, float, float, float, int]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def forms_of_three(painted: Callable[[list[Row]], FakeIndex]) -> FakeIndex:
    """60 craters of 20 km, five degrees apart, of three forms by turns; X0 lies upon C00."""
    rows: list[Row] = [
        (f"C{n:02d}", "", float(n // 12 * 5), float(n % 12 * 5), 20.0, n % 3) for n in range(60)
    ]
    return painted([*rows, ("X0", "", 0.1, 0.1, 21.0, 0)])


def test_craters_of_the_examples_form_come_first(forms_of_three: FakeIndex, tmp_path: Path) -> None:
    consumer = Analogues(like=["C00", "C03"], unlike=["C01"], top=12, classes=3, axes=8)
    check_consumer(consumer, tmp_path, forms_of_three)
    found = [row["id"] for row in read(tmp_path / "analogues.csv")]
    assert len(found) == 12
    assert {int(name[1:]) % 3 for name in found} == {0}
    assert not {"C00", "C03", "X0"} & set(found)
    assert (tmp_path / "analogues.png").stat().st_size > 1000
    of = {row["id"]: row["class"] for row in read(tmp_path / "classes.csv")}
    assert len({of[f"C{n:02d}"] for n in range(0, 60, 3)}) == 1
    assert len(set(of.values())) == 3
    report = (tmp_path / "report.md").read_text()
    assert all(
        (tmp_path / line[line.index("(") + 1 : -1]).is_file() for line in report.splitlines() if "![" in line
    )


def test_bad_input_is_told(forms_of_three: FakeIndex, tmp_path: Path) -> None:
    def run(**options: object) -> None:
        Analogues(**options)(forms_of_three, forms_of_three.neighbours(), tmp_path)

    with pytest.raises(UserError, match="no crater of the index is called 'C0l'; did you mean 'C"):
        run(like=["C0l"])
    with pytest.raises(UserError, match="name an example"):
        run()


def test_the_likest_are_picked_and_diversity_spreads_them() -> None:
    form = whitened(np.random.default_rng(0).standard_normal((200, 12)), 8)
    score = likeness(form, np.zeros(200), [5], [], 0.3)
    score[5] = -np.inf
    assert picked(form, score, 10, 0.0) == np.argsort(-score, kind="stable")[:10].tolist()
    spread, close = (form[picked(form, score, 10, diversity)] for diversity in (0.7, 0.0))
    assert (spread @ spread.T).mean() < (close @ close.T).mean()
    assert likeness(form, np.log(np.full(200, 2.0)), [0], [1], 0.0) == pytest.approx(
        form @ (form[0] - form[1] / 2)
    )


def test_a_place_is_as_far_as_the_larger_crater_reaches() -> None:
    places = Places(np.array([0.0, 0.0, 0.0]), np.array([179.9, -179.9, -170.0]), np.array([5.0, 50.0, 5.0]))
    assert same_place(unit(places), places.diameter, [0], 1737.4, 1.0).tolist() == [True, True, False]
    assert same_place(unit(places), places.diameter, [2], 1737.4, 0.0).tolist() == [False, False, True]
