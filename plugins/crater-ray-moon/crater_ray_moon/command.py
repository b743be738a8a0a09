"""`crater-ray moon-pack`: what `make moon` trained, as the file that this package carries."""

from __future__ import annotations

import math
from pathlib import Path

import click
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from crater_ray.errors import ConfigError
from crater_ray.files import write_whole
from crater_ray.plugins import registry
from crater_ray_moon.difference import packed

STEPS = 16  # halvings of the interval in which the grid's width is sought


@click.command("moon-pack")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write."
)
@click.option(
    "--bytes",
    "limit",
    type=click.IntRange(100_000),
    default=4_000_000,
    show_default=True,
    help="At most as large.",
)
def moon_pack(model: Path, out: Path, limit: int) -> None:
    """Pack MODEL, the model folder of a training run from dinov2_offline, as differences to DINOv2.

    The grid is the finest that fits into --bytes.
    """
    weights = model / "backbone.safetensors"
    try:
        trained = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{weights} cannot be read: {error}; name the model folder of a training run"
        ) from None
    here = registry()
    try:
        size = _trained_size(trained)
    except KeyError:
        raise ConfigError(f"{weights} is no DINOv2 ViT-S/14: it has no position embeddings") from None
    backbone = here.build(here.ref("backbone", "dinov2_offline", {"image_size": size}, where="moon-pack"))
    base = {name: tensor.numpy() for name, tensor in backbone.model.state_dict().items()}
    about = {"base": "vit_small_patch14_dinov2", "image_size": str(size)}
    try:
        data = _finest(base, trained, limit, about)
    except ValueError as error:
        raise ConfigError(f"{weights} is no DINOv2 ViT-S/14: {error}") from None
    write_whole(out, data)
    click.echo(f"{out}: {len(data):,} bytes, differences of {weights}")


def _trained_size(trained: dict[str, np.ndarray]) -> int:
    return 14 * math.isqrt(trained["pos_embed"].shape[1] - 1)


def _finest(
    base: dict[str, np.ndarray], trained: dict[str, np.ndarray], limit: int, about: dict[str, str]
) -> bytes:
    low, high = 1e-6, 1.0  # the second is known to fit: all zeros
    best = packed(base, trained, high, about)
    if len(best) > limit:
        raise ValueError(f"even without matrices it takes {len(best):,} bytes")
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        data = packed(base, trained, middle, about)
        if len(data) > limit:
            low = middle
        else:
            high, best = middle, data
    return best
