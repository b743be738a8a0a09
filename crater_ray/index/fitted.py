"""State that aggregators learnt before the first part, named by its content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors import SafetensorError
from safetensors.numpy import load, save

from crater_ray.errors import DamagedIndex
from crater_ray.index.store import FITTED, write_whole

Arrays = dict[str, np.ndarray[Any, Any]]


def fitted_path(root: Path, sha: str) -> Path:
    return root / FITTED / f"{sha}.safetensors"


def write_fitted(root: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The sha (xxh3_128 hex of the file's bytes) under which the arrays now stand. Raises StorageFull."""
    data = save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})
    sha = xxhash.xxh3_128_hexdigest(data)
    path = fitted_path(root, sha)
    if not (path.exists() and path.read_bytes() == data):
        write_whole(root, path, data)
    return sha


def read_fitted(root: Path, sha: str) -> Arrays:
    """The arrays of `write_fitted`. Raises DamagedIndex when they are missing or changed."""
    path = fitted_path(root, sha)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedIndex(f"{path} is missing: what aggregators learnt; restore it from a copy") from None
    if xxhash.xxh3_128_hexdigest(data) != sha:
        raise DamagedIndex(f"{path} does not match its checksum; restore it from a copy")
    try:
        arrays: Arrays = load(data)
    except SafetensorError as error:
        raise DamagedIndex(f"{path} is not a safetensors file: {error}") from None
    return arrays
