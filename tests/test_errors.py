"""Errors survive the trip from a worker, and the tree in the docstring is the tree there is."""

from __future__ import annotations

import pickle
import re

import pytest

from crater_ray import errors
from crater_ray.errors import CraterRayError, UserError

EVERY = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, CraterRayError)
]


@pytest.mark.parametrize("error", EVERY)
def test_type_and_message_survive_pickling(error: type[CraterRayError]) -> None:
    message = "rerank.k in mars.toml is 256 — use 196 or less"
    back = pickle.loads(pickle.dumps(error(message)))
    assert type(back) is error
    assert (back.message, str(back)) == (message, message)


@pytest.mark.parametrize("error", EVERY)
def test_exit_code_is_2_where_the_caller_can_put_it_right(error: type[CraterRayError]) -> None:
    assert error.exit_code == (2 if issubclass(error, UserError) else 1)


def test_the_docstring_draws_the_tree() -> None:
    drawn: dict[str, str] = {}  # name -> parent
    above: list[tuple[int, str]] = []  # indents and names of the branches that are open
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]+)([A-Z]\w+)  ", line)
        if found:
            depth = len(found[1])
            above = [(indent, name) for indent, name in above if indent < depth]
            drawn[found[2]] = above[-1][1] if above else "Exception"
            above.append((depth, found[2]))
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in EVERY}


@pytest.mark.parametrize("error", EVERY)
def test_the_docstring_says_what_each_means(error: type[CraterRayError]) -> None:
    assert error.__doc__
    if error is not CraterRayError:
        words = (errors.__doc__ or "").split(error.__name__)[1].splitlines()[0]
        assert len(words.split()) > 3


def test_an_error_takes_one_string() -> None:
    with pytest.raises(TypeError):
        UserError("what", "where")  # type: ignore[call-arg]
