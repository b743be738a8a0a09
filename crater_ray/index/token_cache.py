"""A backbone's tokens kept by part, so that benches, refits and training need not encode again.

<root>/<key>/ patches.bin (n, T, D) float16 · cls.bin (n, D) float32 · attention.bin (n, H, T) float32
              attention_column.bin (n, H, T) float32 · valid.bin (n, T) bool · tokens.json, last
              What a backbone does not give has no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.files import Stream, Sum, remove_folder, write_stream
from crater_ray.index.checksummed_json import canonical, checksummed, read_checksummed
from crater_ray.index.config import without_paths
from crater_ray.index.parts import Array, part_digest
from crater_ray.index.store import FolderStore, attempt
from crater_ray.plugins.specs import PluginRef
from crater_ray.types import Item, TokenShape

TOKENS = "tokens.json"
_TYPES: dict[str, type[np.generic]] = {
    "patches": np.float16,
    "cls": np.float32,
    "attention": np.float32,
    "attention_column": np.float32,
    "valid": np.bool_,
}


def token_key(
    items: Iterable[Item],
    *,
    reader: PluginRef,
    backbone: PluginRef,
    backbone_digest: str,
    precision: str,
    batch: int,
    max_pixels: int,
) -> str:
    """xxh3_128 hex of all that the tokens of a part depend on.

    The reader counts with its paths, since a cache may be shared by jobs whose uris look alike; the backbone
    without its file options, which its digest covers. Releases do not count: algorithm versions do.
    """
    plain = [asdict(reader), asdict(without_paths(backbone))]
    for ref in plain:
        del ref["module"], ref["version"]
    made = xxhash.xxh3_128_hexdigest(canonical([*plain, backbone_digest, precision, batch, max_pixels]))
    return part_digest(made, items)


@dataclass(frozen=True, slots=True)
class TokenRows:
    """A stretch of cached rows, n images; maps, so copy what you keep."""

    first: int
    ids: tuple[str, ...]
    arrays: Mapping[str, Array]  # what the backbone gave, by the names and types of the files
    bad: Mapping[int, str]  # row in this stretch -> why its image could not be used; its tokens are zeros


class CachedTokens:
    """One part's tokens, n rows as they were appended."""

    def __init__(self, folder: Path, payload: Mapping[str, Any]) -> None:
        self.folder = folder
        self.ids: tuple[str, ...] = tuple(payload["ids"])
        dim, grid, heads, cls = payload["shape"]
        self.shape = TokenShape(dim, (grid[0], grid[1]), heads, cls)
        self.bad: dict[int, str] = {int(row): reason for row, reason in payload["bad"].items()}
        self.files = {name: Sum(**told) for name, told in payload["files"].items()}

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, batch: int) -> Iterator[TokenRows]:
        """All rows, `batch` at a time, hashed as they are read.

        Raises DamagedIndex after the last when a byte differs from what was written: commit nothing before.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; use 1 or more")
        maps = {name: self._map(name) for name in self.files}
        hashes = {name: xxhash.xxh3_128() for name in self.files}
        for first in range(0, len(self), batch):
            stop = min(first + batch, len(self))
            rows = {name: array[first:stop] for name, array in maps.items()}
            for name, array in rows.items():
                hashes[name].update(np.ascontiguousarray(array).view(np.uint8).data)
            bad = {row - first: reason for row, reason in self.bad.items() if first <= row < stop}
            yield TokenRows(first, self.ids[first:stop], rows, bad)
        for name, told in self.files.items():
            if hashes[name].hexdigest() != told.xxh3_128:
                raise DamagedIndex(
                    f"{self.folder / name}.bin does not match its checksum; "
                    "delete its folder, and the job encodes the part again"
                )

    def check(self) -> None:
        """Reads everything. Raises DamagedIndex naming the first file that changed."""
        for _ in self.batches(64):
            pass

    def _map(self, name: str) -> Array:
        shape = (len(self), *_row_shape(name, self.shape))
        if not len(self):
            return np.empty(shape, _TYPES[name])
        return np.memmap(self.folder / f"{name}.bin", _TYPES[name], "r", shape=shape)


class TokenCache:
    """Tokens by key below one folder, which several jobs may share."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.store = FolderStore(self.root)

    def find(self, key: str) -> CachedTokens | None:
        """The finished tokens of a key, None when they are absent or a file is missing or short."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        try:
            found = CachedTokens(folder, read_checksummed(folder / TOKENS, "what the cached tokens are"))
        except (DamagedIndex, IndexMismatch):
            return None
        for name, told in found.files.items():
            path = folder / f"{name}.bin"
            if not path.exists() or os.stat(path).st_size != told.bytes:
                return None
        return found

    def writer(
        self, key: str, shape: TokenShape, *, attention_column: bool = False, valid: bool = False
    ) -> TokenWriter:
        return TokenWriter(self.store, key, shape, attention_column, valid)


class TokenWriter:
    """Tokens in the making, appended in constant memory. Without a `commit` the attempt is removed.

    Raises StorageFull.
    """

    def __init__(
        self, store: FolderStore, key: str, shape: TokenShape, attention_column: bool, valid: bool
    ) -> None:
        self._store, self._key, self._shape = store, key, shape
        self._ids: list[str] = []
        self._bad: dict[int, str] = {}
        names = [
            "patches",
            *(["cls"] if shape.cls else []),
            *(["attention"] if shape.heads else []),
            *(["attention_column"] if attention_column else []),
            *(["valid"] if valid else []),
        ]
        self._streams: dict[str, Stream] = {}
        self._folder = attempt(store, key[:16])
        try:
            for name in names:
                self._streams[name] = Stream(self._folder / f"{name}.bin")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def append(
        self,
        ids: Sequence[str],
        patches: Array,
        cls: Array | None = None,
        attention: Array | None = None,
        attention_column: Array | None = None,
        valid: Array | None = None,
        bad: Mapping[int, str] | None = None,
    ) -> None:
        """Rows in order: patches (n, T, D), cls (n, D), attention (n, H, T) and as much of attention_column,
        valid (n, T).

        Cast to float16 (patches), bool (valid) and float32. A bad image keeps its row, of zeros, with its
        reason in `bad`. Raises ValueError for a shape that does not fit, StorageFull.
        """
        given = {
            "patches": patches,
            "cls": cls,
            "attention": attention,
            "attention_column": attention_column,
            "valid": valid,
        }
        rows: dict[str, Array] = {}
        for name in self._streams:
            array = given[name]
            shape = (len(ids), *_row_shape(name, self._shape))
            if array is None or array.shape != shape:
                raise ValueError(f"{name} must be {shape}, not {None if array is None else array.shape}")
            rows[name] = np.ascontiguousarray(array, _TYPES[name])
        for name, stream in self._streams.items():
            stream.write(rows[name])
        self._bad.update({len(self._ids) + row: reason for row, reason in (bad or {}).items()})
        self._ids.extend(ids)

    def commit(self) -> CachedTokens:
        """The finished tokens; another job's, when it came first. Raises StorageFull."""
        sums = {name: stream.close() for name, stream in self._streams.items()}
        shape = self._shape
        bad = {str(row): reason for row, reason in self._bad.items()}
        payload = {
            "format": 1,
            "ids": self._ids,
            "bad": bad,
            "shape": [shape.dim, list(shape.grid), shape.heads, shape.cls],
            "files": {name: told.payload() for name, told in sums.items()},
        }
        write_stream(self._folder / TOKENS, checksummed(payload))
        cache = TokenCache(self._store.local)
        self._store.publish(self._folder, self._key, TOKENS, "", lambda: cache.find(self._key) is not None)
        remove_folder(self._folder)
        target, found = self._store.local / self._key, cache.find(self._key)
        if found is None:
            raise DamagedIndex(f"{target} was changed while it was written; run the same command again")
        return found

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.__exit__(kind, value, trace)
        remove_folder(self._folder)


def _row_shape(name: str, shape: TokenShape) -> tuple[int, ...]:
    if name == "patches":
        return (shape.tokens, shape.dim)
    if name == "valid":
        return (shape.tokens,)
    return (shape.dim,) if name == "cls" else (shape.heads, shape.tokens)
