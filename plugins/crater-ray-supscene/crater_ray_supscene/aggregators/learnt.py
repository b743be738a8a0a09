"""What index jobs build: aggregators from a model folder, not with the weights that training starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from crater_ray.errors import ConfigError
from crater_ray.types import TokenShape
from crater_ray_supscene.aggregators.divlad import Divlad
from crater_ray_supscene.aggregators.netvlad import Netvlad
from crater_ray_supscene.aggregators.salad import Salad
from crater_ray_supscene.aggregators.saved import Trained

Kind = TypeVar("Kind", bound=Trained)
_to_be_trained = ContextVar("to_be_trained", default=False)


@contextmanager
def to_be_trained() -> Iterator[None]:
    """Inside, aggregators may have their first weights."""
    token = _to_be_trained.set(True)
    try:
        yield
    finally:
        _to_be_trained.reset(token)


def divlad(shape: TokenShape, **options: Any) -> Divlad:
    return _learnt(Divlad, shape, options)


def netvlad(shape: TokenShape, **options: Any) -> Netvlad:
    return _learnt(Netvlad, shape, options)


def salad(shape: TokenShape, **options: Any) -> Salad:
    return _learnt(Salad, shape, options)


def _learnt(kind: type[Kind], shape: TokenShape, options: dict[str, Any]) -> Kind:
    if options.get("path") is None and not _to_be_trained.get():
        raise ConfigError(
            f"{kind.name} without a `path` has random weights; train one (crater-ray train --help), and name "
            'its model folder: path = "OUT/model"'
        )
    return kind(shape, **options)
