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
from crater_ray.index.store import FITTED, Store

Arrays = dict[str, np.ndarray[Any, Any]]


def fitted_path(store: Store, sha: str) -> Path:
    return store.local / fitted_key(sha)


def fitted_key(sha: str) -> str:
    return f"{FITTED}/{sha}.safetensors"


def write_fitted(store: Store, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The sha (xxh3_128 hex of the file's bytes) under which the arrays now stand. Raises StorageFull."""
    data = save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})
    sha = xxhash.xxh3_128_hexdigest(data)
    there = store.fetch(fitted_key(sha), lambda found, where: None)
    if not (there and fitted_path(store, sha).read_bytes() == data):
        store.put(fitted_key(sha), data)
    return sha


def fitted_file(store: Store, sha: str) -> Path:
    """The file of that content, here. Raises DamagedIndex when object storage has it otherwise, or not."""
    path = fitted_path(store, sha)
    if not store.fetch(fitted_key(sha), lambda data, where: _check(data, where, sha)):
        raise DamagedIndex(f"{path} is missing: what aggregators learnt; restore it from a copy")
    return path


def read_fitted(store: Store, sha: str) -> Arrays:
    """The arrays of `write_fitted`. Raises DamagedIndex when they are missing or changed."""
    path = fitted_file(store, sha)
    data = path.read_bytes()
    _check(data, str(path), sha)
    try:
        arrays: Arrays = load(data)
    except SafetensorError as error:
        raise DamagedIndex(f"{path} is not a safetensors file: {error}") from None
    return arrays


def _check(data: bytes, where: str, sha: str) -> None:
    if xxhash.xxh3_128_hexdigest(data) != sha:
        raise DamagedIndex(f"{where} does not match its checksum; restore it from a copy")
