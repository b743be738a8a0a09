"""The factories of crater-ray-fake; no module that a hook lives in imports this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch

from crater_ray.types import Side, Tokens, TokenShape


class Paths:
    """Keeps what it was built with."""

    def __init__(self, **options: Any) -> None:
        self.options = options


class First:
    """The first patch token, k = 1."""

    k = 1

    def __init__(self, shape: TokenShape) -> None:
        self.dim = shape.dim

    def __call__(self, tokens: Tokens, side: Side) -> torch.Tensor:
        return torch.nn.functional.normalize(tokens.patches[:, :1].float(), dim=-1)


class Count:
    """Writes the number of neighbour rows."""

    def __call__(self, index: Any, neighbours: Any, out: Path) -> Path:
        path = out / "count.txt"
        path.write_text(f"{neighbours.count_rows()}\n")
        return path


@click.command()
def hello() -> None:
    """Say hello."""
    click.echo("hello from fake")
