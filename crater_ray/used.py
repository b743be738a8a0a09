"""What another option leaves without a use is refused, in job files and options of plugins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, model_validator


class Used(BaseModel):
    """A model whose fields are all read by what its other fields choose."""

    def unused(self) -> Iterator[tuple[str, str]]:
        """Fields that nothing reads as the others are, each with the reason. A default may stay."""
        yield from ()

    def refused(self) -> str:
        """Which of them has another value than its default, and why nothing reads it; "" where none has."""
        fields = type(self).model_fields
        for name, why in self.unused():
            if getattr(self, name) != fields[name].get_default(call_default_factory=True):
                return f"{name} is not used: {why}"
        return ""

    @model_validator(mode="after")
    def _all_used(self) -> Self:
        if why := self.refused():
            raise ValueError(why)
        return self
