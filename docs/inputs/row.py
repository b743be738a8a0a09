"""One form of input, how a tiny one is made, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """`attempt` makes the input in an empty folder and reads it; it raises a CraterRayError when refused."""

    form: str
    answer: str  # "read", "read: and how", or words of the line that refuses it
    attempt: Callable[[Path], object]
    warning: str = ""  # words of the one line that says what was skipped or overruled

    @property
    def is_read(self) -> bool:
        return self.answer == "read" or self.answer.startswith("read:")

    @property
    def outcome(self) -> str:
        """The second cell of the table."""
        told = self.answer if self.is_read else f"“{self.answer}”"
        told += f"; warns “{self.warning}”" if self.warning else ""
        return told.replace("|", "\\|")
