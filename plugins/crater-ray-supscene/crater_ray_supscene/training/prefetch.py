"""The next step's input, loaded while a step is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from crater_ray_supscene.training.batch import Batch, Inputs


@dataclass(frozen=True, slots=True)
class Prefetched:
    """A batch whose input is being loaded."""

    batch: Batch
    coming: Future[Inputs]


class Prefetcher:
    """Loads in one thread, into pinned memory where a GPU computes. A context: the thread ends with it."""

    def __init__(self, store: Any, device: torch.device) -> None:
        self._store, self._pin = store, device.type == "cuda"
        # one torch thread: two teams of threads on the same cores only wait for each other
        self._pool = ThreadPoolExecutor(1, "input", initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> Callable[[Batch], Prefetched]:
        return self._load

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, batch: Batch) -> Prefetched:
        return Prefetched(batch, self._pool.submit(self._inputs, batch))

    def _inputs(self, batch: Batch) -> Inputs:
        inputs = batch.inputs(self._store)
        return inputs.pinned() if self._pin else inputs
