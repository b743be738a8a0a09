"""Progress of training: the driver prints the lines of its workers' log as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crater_ray_supscene.training import checkpoint, record
from crater_ray_supscene.training.job import TrainJob

Say = Callable[[str], None]


@contextmanager
def followed(job: TrainJob, say: Say) -> Iterator[None]:
    """Says new lines of the log as they come."""
    over = threading.Event()
    found = checkpoint.latest(job.out / "checkpoints")
    start = (-1, False) if found is None else (int(checkpoint.read_told(found)["step"]), True)
    run = (job.out / record.RUN).read_text(encoding="utf-8")

    def follow() -> None:
        seen, device = start, ""
        while not over.is_set():
            over.wait(0.5)
            now = next((e["device"] for e in record.read(job.out) if e.get("run") == run), "")
            if now != device:  # workers that died come back, perhaps elsewhere
                say(f"training on {now}")
            seen, device = _print_new(job, seen, say), now

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _print_new(job: TrainJob, seen: tuple[int, bool], say: Say) -> tuple[int, bool]:
    """The last line told: its step, and whether it was of what is held out."""
    for entry in record.read(job.out):
        here = (entry["step"], "held_out" in entry)
        if here <= seen or "device" in entry:
            continue
        seen = here
        if "loss" in entry:
            say(f"step {entry['step']}/{job.train.steps} loss {entry['loss']:.4f} {entry['seconds']:.2f} s")
        elif "skipped" in entry:
            say(f"step {entry['step']}/{job.train.steps} skipped: {entry['skipped']}")
        else:
            numbers = [f"{name} {value:.3f}" for name, value in entry["held_out"].items() if _short(name)]
            say(f"step {entry['step']}: {', '.join(numbers)}")
    return seen


def _short(name: str) -> bool:
    return name.endswith(("mAP", "hit@1", "@10", "/min(P,10)"))
