"""Whose fault an unexpected error is: the plugin in whose code it arose, with the file and the line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from crater_ray.errors import CraterRayError
from crater_ray.plugins.registry import registry

Given = ParamSpec("Given")
Value = TypeVar("Value")
_BY = "raised in plugin "


def blaming(call: Callable[Given, Value]) -> Callable[Given, Value]:
    """The same function: what it raises and is no error of ours carries its plugin as a note."""

    @wraps(call)
    def inside(*args: Given.args, **more: Given.kwargs) -> Value:
        try:
            return call(*args, **more)
        except CraterRayError:
            raise
        except Exception as error:
            if by := blamed(error):
                error.add_note(by)
            raise

    return inside


def blamed(error: BaseException) -> str:
    """`raised in plugin NAME VERSION, FILE, line N`; "" for an error that arose in no plugin's code."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_BY)]
    return notes[0] if notes else _plugin(error)


def _plugin(error: BaseException) -> str:
    owners = registry().packages()
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # the innermost comes last
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if (owner := owners.get(package)) is not None:
            file = Path(frame.f_code.co_filename)
            found = f"{_BY}{owner}, {file.parent.name}/{file.name}, line {line}"
    return found
