"""A folder in the CraterBench-R layout, one split of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pyarrow as pa

from crater_ray import image_files
from crater_ray.errors import ReaderError
from crater_ray.types import Item
from crater_ray_craterbench.layout import Entry, read_layout


class CraterBench:
    """Reader `craterbench`: id = uri = path (images/gallery/x.jpg), group = crater id, column `view`.

    A query's relevant crater ids, in the gallery and with its own, have gain 1.
    """

    columns = pa.schema([("view", pa.string())])

    def __init__(self, root: Path, split: Literal["gallery", "query", "train"] = "gallery") -> None:
        self.root = Path(root)
        self.split = split

    def parts(self) -> list[str]:
        """Names by content. Raises ReaderError when the folder is not in the layout or lists a path twice."""
        return list(self._parts)

    def read(self, part: str) -> Iterator[Item]:
        """The items of one part, sorted by id. Raises ReaderError for an unknown part."""
        if part not in self._parts:
            raise ReaderError(f"{self.root} has no part {part!r}; it changed since it was listed, run again")
        for entry in self._entries[self._parts[part]]:
            yield Item(
                entry.path,
                entry.crater_id,
                entry.path,
                image_files.stamp(self.root, entry.path),
                dict.fromkeys(entry.relevant, 1.0),
                {"view": entry.view},
            )

    def load(self, uri: str) -> bytes:
        """The file's bytes. Raises BadImage when it is gone, ReaderError outside root, OSError."""
        return image_files.load(self.root, uri)

    @cached_property
    def _parts(self) -> dict[str, slice]:
        return image_files.cut([entry.path for entry in self._entries])

    @cached_property
    def _entries(self) -> list[Entry]:
        entries = sorted(read_layout(self.root, self.split), key=lambda entry: entry.path)
        if not entries:
            raise ReaderError(f"the {self.split} split of {self.root} is empty")
        if not (self.root / "images").is_dir():
            raise ReaderError(f"{self.root} has no images/ folder; unpack images.zip there")
        for before, after in pairwise(entries):
            image_files.below(self.root, after.path)
            if before.path == after.path:
                raise ReaderError(
                    f"{self.root}: {after.path!r} is listed twice in the {self.split} split; "
                    f"crater-ray validate {self.root} tells more"
                )
        image_files.below(self.root, entries[0].path)
        return entries
