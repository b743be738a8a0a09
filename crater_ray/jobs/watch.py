"""What an encoder actor tells of itself while it works: how many images, and when that last changed."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import RayError


class Watched:
    """One encoder actor, asked now and then how far it is; never more than one question on its way."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.images: int | None = None  # that it has encoded; None: it has not answered yet
        self.asked: Any = None  # the question on its way
        self._since = time.monotonic()

    def begins(self) -> None:
        """It was given something to do."""
        self._since = time.monotonic()

    def still(self) -> float:
        """Seconds since it got on."""
        return time.monotonic() - self._since

    def ask(self) -> None:
        if self.asked is None:
            self.asked = self.actor.encoded.remote()

    def hear(self) -> None:
        """Takes the answer, if it has come."""
        if self.asked is None or not ray.wait([self.asked], timeout=0)[0]:
            return
        ref, self.asked = self.asked, None
        try:
            images = int(ray.get(ref))
        except RayError:
            return  # the work it was given will say so
        if images != self.images:
            self.images, self._since = images, time.monotonic()
