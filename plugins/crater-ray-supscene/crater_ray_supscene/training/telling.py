"""What a driver says while its workers train: the lines of their log as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crater_ray_supscene.training import checkpoint, record
from crater_ray_supscene.training.job import TrainJob

Say = Callable[[str], None]


@contextmanager
def told(job: TrainJob, say: Say) -> Iterator[None]:
    """Says new lines of the log as they come."""
    over = threading.Event()
    found = checkpoint.latest(job.out / "checkpoints")
    start = (-1, False) if found is None else (int(checkpoint.read_told(found)["step"]), True)

    def follow() -> None:
        seen = start
        while not over.wait(0.5):
            seen = _say_new(job, seen, say)
        _say_new(job, seen, say)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _say_new(job: TrainJob, seen: tuple[int, bool], say: Say) -> tuple[int, bool]:
    """The last line told: its step, and whether it was of what is held out."""
    for entry in record.read(job.out):
        here = (entry["step"], "held_out" in entry)
        if here <= seen:
            continue
        seen = here
        if "loss" in entry:
            say(f"step {entry['step']}/{job.train.steps} loss {entry['loss']:.4f} {entry['seconds']:.2f} s")
        else:
            numbers = [f"{name} {value:.3f}" for name, value in entry["held_out"].items() if _short(name)]
            say(f"step {entry['step']}: {', '.join(numbers)}")
    return seen


def _short(name: str) -> bool:
    return name.endswith(("mAP", "hit@1", "@10", "/min(P,10)"))
