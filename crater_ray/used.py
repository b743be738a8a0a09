"""Options that mean nothing are refused, in job files and of plugins.

They are what another option leaves without a use, true for a number, and numbers that are not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator


class Used(BaseModel):
    """A model whose fields are all read by what its other fields choose, and whose numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, handler: Any) -> Any:
        made = handler(value)
        if isinstance(value, bool) and not isinstance(made, bool):
            raise ValueError(f"a number is asked for, not {str(value).lower()}")
        return made

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
