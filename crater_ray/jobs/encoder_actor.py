"""The encoder actor: everything is built in a method, so that an error keeps its type."""

from __future__ import annotations

from typing import Any

import ray

from crater_ray.errors import DeviceError
from crater_ray.jobs.journal import Careful
from crater_ray.jobs.nodes import Checked, here
from crater_ray.jobs.part import Done, PartWorker, Work
from crater_ray.plugins.blame import blaming
from crater_ray.types import Item


class _Encoder:
    """Encodes one part at a time; a second thread answers `encoded`."""

    def __init__(self) -> None:
        self._worker: PartWorker | None = None

    def check(self, device: str) -> Checked:
        """Where it runs, and whether its device computes."""
        return Checked(here(), None if device == "cpu" else _fault(device))

    @blaming
    def encode(self, work: Work, part: str, careful: Careful | None) -> Done:
        return self._at(work).encode(part, careful)

    @blaming
    def fit(self, work: Work, role: str, items: list[Item], seed: int, careful: Careful | None) -> str:
        return self._at(work).fit(role, items, seed, careful)

    def encoded(self) -> int:
        return self._worker.encoded if self._worker else 0

    def _at(self, work: Work) -> PartWorker:
        if self._worker is None or self._worker.work != work:
            self._worker = PartWorker(work)
        return self._worker


def _fault(device: str) -> str | None:
    try:
        import torch

        from crater_ray.encode.device import check

        check(torch.device(device))
    except DeviceError as error:
        return error.message
    except Exception as error:  # torch itself may not load beside a broken driver
        return f"{type(error).__name__}: {error}"
    return None


EncoderActor: Any = ray.remote(_Encoder)  # an actor class: .options(...).remote()
