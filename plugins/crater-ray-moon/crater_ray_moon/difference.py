"""Weights as differences to other weights, in few bits: rounded to a grid, then Huffman coded by zlib.

One number, `step`, is the grid's width where all rows and columns of a matrix matter alike. In a pre-norm
block they do not. What a column after a LayerNorm sees is scaled by the norm's weight; what a row before a
LayerScale gives is scaled by its gamma. There the grid is finer or coarser: errors weigh the same in the sum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from crater_ray.errors import PluginError

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]

FORMAT = "1"
AFTER_NORM = {"attn.qkv.weight": "norm1.weight", "mlp.fc1.weight": "norm2.weight"}
BEFORE_SCALE = {"attn.proj.weight": "ls1.gamma", "mlp.fc2.weight": "ls2.gamma"}
SHARPEST = 0.25  # of the median weight: no row or column counts for less


def packed(base: Tensors, trained: Tensors, step: float, about: dict[str, str]) -> bytes:
    """A safetensors file of every tensor in which `trained` differs; matrices on a grid, vectors as float16.

    Raises ValueError where names or shapes differ, or a value is not finite.
    """
    if base.keys() != trained.keys():
        raise ValueError(f"tensors of one side only: {', '.join(sorted(base.keys() ^ trained.keys())[:3])}")
    file: Tensors = {}
    for name in sorted(base):
        old, new = base[name], trained[name]
        if old.shape != new.shape:
            raise ValueError(f"{name} is {old.shape} and {new.shape}")
        if not np.isfinite(new).all():
            raise ValueError(f"{name} has values that are not finite")
        if np.allclose(old, new, rtol=1e-5, atol=1e-7):  # position embeddings too, resampled on another CPU
            continue
        change = new - old
        file[f"{name}:norm"] = np.float32(np.linalg.norm(old)).reshape(1)
        if old.ndim < 2:
            file[f"{name}:float16"] = change.astype(np.float16)
            continue
        levels = np.rint(change / (step * _widths(base, name)))
        grid = np.clip(levels, -127, 127).astype(np.int8)
        coder = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)  # the numbers repeat nothing
        file[f"{name}:grid"] = np.frombuffer(coder.compress(grid.tobytes()) + coder.flush(), np.uint8)
    data: bytes = save(file, {"format": FORMAT, "step": repr(step), **about})
    return data


def added(base: Tensors, path: Path) -> Tensors:
    """The tensors of `base` that the file changes, changed, float32.

    Raises PluginError for a file that is damaged or of another format, or a base it was not made for.
    """
    try:
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            raise PluginError(f"{path} is of format {about['format']}, and this release reads {FORMAT}")
        return dict(_changed(base, stored, float(about["step"])))
    except (OSError, SafetensorError, zlib.error, KeyError, ValueError) as error:
        raise PluginError(
            f"{path} does not fit: {type(error).__name__}: {error}; install crater-ray-moon again"
        ) from None


def _changed(base: Tensors, stored: Tensors, step: float) -> Iterator[tuple[str, Array]]:
    for key, array in stored.items():
        name, _, form = key.rpartition(":")
        if form == "norm":
            if not np.isclose(np.linalg.norm(base[name]), array[0], rtol=1e-3):
                raise ValueError(f"{name} of the base is not the one that these weights are differences to")
        elif form == "float16":
            yield name, base[name] + array.astype(np.float32)
        else:
            grid = np.frombuffer(zlib.decompress(array.tobytes()), np.int8).reshape(base[name].shape)
            yield name, (base[name] + grid * step * _widths(base, name)).astype(np.float32)


def _widths(base: Tensors, name: str) -> Array:
    """Grid widths of a matrix in steps, to broadcast over it."""
    place = next((end for end in (*AFTER_NORM, *BEFORE_SCALE) if name.endswith("." + end)), None)
    if place is None:
        return np.float32(1).reshape(1, 1)
    block = name.removesuffix(place)
    weight = np.abs(base[block + (AFTER_NORM | BEFORE_SCALE)[place]]).astype(np.float64)
    weight = np.maximum(weight, SHARPEST * np.median(weight))
    widths = (1 / weight).astype(np.float32)
    return widths[None, :] if place in AFTER_NORM else widths[:, None]
