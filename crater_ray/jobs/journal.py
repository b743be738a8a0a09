"""Which image a worker had in hand, and which workers died by themselves: an interruption is no death.

A worker cannot say why it ended, so two hands write. The worker names each image before it touches it, and
the attempt that it is. The driver, which alone sees whether a worker died by itself, keeps the attempts that
did. An image has killed as many workers as attempts that both tell of. Where nobody is left to judge (the
driver was stopped or killed, the node went), nothing is held against the image.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from crater_ray.files import make_folder, writing
from crater_ray.index.store import TMP, Store


@dataclass(frozen=True, slots=True)
class Careful:
    """One try at a part, or at a fit, in which each image is journalled."""

    attempt: str
    died: tuple[str, ...]  # earlier attempts at the same whose worker died by itself


class Journal:
    """Names each image before it is touched, so that it is known which one a worker had when it died.

    `attempt` is who writes; `died` are the attempts whose worker died by itself. A context manager, which
    keeps what it holds unless `close` was called.
    """

    def __init__(self, store: Store, name: str, attempt: str = "", died: Collection[str] = ()) -> None:
        self.attempt = attempt
        self.path = make_folder(store.local / TMP) / f"{name}.journal"
        told = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        in_hand: dict[str, str] = {}  # attempt -> the image that it has begun and not survived
        for line in told.splitlines():
            try:
                event, id, writer = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the disk was full, or the power went
            if event == "begin":
                in_hand[writer] = id
            elif in_hand.get(writer) == id:
                del in_hand[writer]
        self._kills = Counter(id for writer, id in in_hand.items() if writer in died)
        with writing(self.path):
            self._file = self.path.open("ab", buffering=0)  # nothing is written later than it is told
        if told and not told.endswith("\n"):
            self._write(b"\n")

    def kills(self, id: str) -> int:
        """Workers that died by themselves while they had that image in hand."""
        return self._kills[id]

    def begin(self, id: str) -> None:
        self._tell("begin", id)
        with writing(self.path):
            os.fsync(self._file.fileno())

    def survived(self, id: str) -> None:
        self._tell("survived", id)

    def _tell(self, event: str, id: str) -> None:
        self._write(json.dumps([event, id, self.attempt]).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with writing(self.path):
            while line:
                line = line[self._file.write(line) :]

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> None:
        """The work is committed: the journal has served."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Deaths:
    """The driver's record of one part or fit: the careful attempts whose worker died by itself.

    It lies on the driver's own machine and is read by the next run there.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.path = store.local / TMP / f"{name}.deaths"

    def begin(self) -> Careful:
        """A new attempt, which knows how those before it ended."""
        return Careful(uuid.uuid4().hex, self._told())

    def add(self, attempt: str) -> None:
        """The worker of that attempt died by itself. Raises StorageFull."""
        make_folder(self.path.parent)
        with writing(self.path), self.path.open("a", encoding="ascii") as file:
            file.write(f"{attempt}\n")
            file.flush()
            os.fsync(file.fileno())

    def clear(self) -> None:
        """The part is done."""
        self.path.unlink(missing_ok=True)

    def _told(self) -> tuple[str, ...]:
        return tuple(self.path.read_text(encoding="ascii").split()) if self.path.exists() else ()
