"""An interruption is no death: only what the driver saw die by itself counts against an image."""

from __future__ import annotations

from pathlib import Path

from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayError

from crater_ray.index.store import store_at
from crater_ray.jobs.journal import Careful, Deaths, Journal
from crater_ray.jobs.ray_errors import by_itself

PART = "p0000.0123"


def attempt(root: Path, *, dies_at: str | None = None, stopped_at: str | None = None) -> Journal:
    """One try over three images, by a driver that starts anew each time."""
    deaths = Deaths(store_at(root), "p0000")
    careful = deaths.begin()
    with Journal(store_at(root), PART, careful.attempt, careful.died) as journal:
        for id in ("a", "b", "c"):
            journal.begin(id)
            if id == stopped_at:
                break  # nobody is left to judge
            if id == dies_at:
                deaths.add(careful.attempt)
                break
            journal.survived(id)
    return journal


def known(root: Path, id: str) -> int:
    with Journal(store_at(root), PART, "now", Deaths(store_at(root), "p0000").begin().died) as journal:
        return journal.kills(id)


def test_interruptions_at_one_image_are_no_deaths(tmp_path: Path) -> None:
    for _ in range(3):
        attempt(tmp_path, stopped_at="b")
    assert known(tmp_path, "b") == 0


def test_deaths_count_across_runs_and_by_image(tmp_path: Path) -> None:
    attempt(tmp_path, dies_at="b")
    attempt(tmp_path, stopped_at="b")
    attempt(tmp_path, dies_at="c")
    assert (known(tmp_path, "a"), known(tmp_path, "b"), known(tmp_path, "c")) == (0, 1, 1)
    attempt(tmp_path, dies_at="b")
    assert known(tmp_path, "b") == 2


def test_a_worker_that_dies_between_images_blames_none(tmp_path: Path) -> None:
    deaths = Deaths(store_at(tmp_path), "p0000")
    careful = deaths.begin()
    with Journal(store_at(tmp_path), PART, careful.attempt, careful.died) as journal:
        journal.begin("a")
        journal.survived("a")
    deaths.add(careful.attempt)
    assert known(tmp_path, "a") == 0


def test_a_torn_line_is_passed_over_and_a_part_that_is_done_leaves_nothing(tmp_path: Path) -> None:
    journal = attempt(tmp_path, dies_at="a")
    with journal.path.open("ab") as file:
        file.write(b'["begin", "b')
    again = Journal(store_at(tmp_path), PART, "second", Deaths(store_at(tmp_path), "p0000").begin().died)
    assert (again.kills("a"), again.kills("b")) == (1, 0)
    again.begin("c")
    with Journal(store_at(tmp_path), PART, "third", ["second"]) as third:
        assert third.kills("c") == 1
    again.close()
    Deaths(store_at(tmp_path), "p0000").clear()
    Deaths(store_at(tmp_path), "p0000").clear()  # nor does it mind
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_attempt_is_told_of_the_deaths_before_it(tmp_path: Path) -> None:
    deaths = Deaths(store_at(tmp_path), "p0000")
    assert deaths.begin().died == ()
    deaths.add("one")
    deaths.add("two")
    told = Deaths(store_at(tmp_path), "p0000").begin()
    assert isinstance(told, Careful)
    assert told.died == ("one", "two")
    assert Deaths(store_at(tmp_path), "p0001").begin().died == ()


def died(said: str) -> RayError:
    error = ActorDiedError()
    error.error_msg = said
    return error


def test_what_ray_says_of_a_worker_that_others_ended() -> None:
    crash = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    assert by_itself(died(crash))
    assert by_itself(OutOfMemoryError("more than 95 % of memory"))
    assert not by_itself(died("The actor is dead because it was killed by `ray.kill`."))
    assert not by_itself(died("The actor died because its node has died. Node Id: 2f87"))
    assert not by_itself(ActorUnavailableError("Socket closed", None))
    assert not by_itself(NodeDiedError("gone"))
