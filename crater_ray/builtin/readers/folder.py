"""Every image below a folder; each is its own group."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from crater_ray.builtin.readers import files
from crater_ray.builtin.readers.parts import cut
from crater_ray.errors import ReaderError
from crater_ray.types import Item

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".jp2", ".bmp", ".gif", ".pgm", ".ppm")
)


class Folder:
    """Reader `folder`: id = path below root with forward slashes, group = id, no columns of its own.

    pattern: a glob of relative paths ("**" is any depth). It chooses among files with an image's extension; a
    pattern whose last step has an extension ("**/*.img") chooses by itself. Hidden files are left out.
    The folder is listed once an instance: names only, so that 10^7 files take seconds and no stat.
    """

    columns = pa.schema([])

    def __init__(self, root: Path, pattern: str = "**/*") -> None:
        self.root = Path(root)
        self.pattern = pattern

    def parts(self) -> list[str]:
        """Names by content. Raises ReaderError when there is no folder, or no image in it."""
        return list(self._parts)

    def read(self, part: str) -> Iterator[Item]:
        """The items of one part, sorted by id. Raises ReaderError for an unknown part."""
        if part not in self._parts:
            raise ReaderError(f"{self.root} has no part {part!r}; it changed since it was listed, run again")
        for id in self._ids[self._parts[part]]:
            yield Item(id, id, id, files.stamp(self.root, id))

    def load(self, uri: str) -> bytes:
        """The file's bytes. Raises BadImage when it is gone, ReaderError outside root, OSError."""
        return files.load(self.root, uri)

    @cached_property
    def _parts(self) -> dict[str, slice]:
        return cut(self._ids)

    @cached_property
    def _ids(self) -> list[str]:
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise ReaderError(f"{self.root} {what}; set root to the folder that holds the images")
        wanted = self.pattern.split("/")
        by_extension = "." not in wanted[-1]
        ids = sorted(
            path
            for path in _walk(self.root)
            if (not by_extension or os.path.splitext(path)[1].lower() in EXTENSIONS)
            and (self.pattern == "**/*" or _matches(path.split("/"), wanted))
        )
        if not ids:
            known = ", ".join(sorted(EXTENSIONS)) if by_extension else "any extension"
            raise ReaderError(
                f"no image below {self.root} matches {self.pattern!r} ({known}); "
                f"set root or pattern to where they are"
            )
        return ids


def _walk(root: Path) -> Iterator[str]:
    """Paths of files below root, with forward slashes; symlinked folders are entered, loops are not."""
    waiting = [(str(root), "", frozenset({_identity(str(root))}))]
    while waiting:
        folder, prefix, ancestors = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if (identity := _identity(entry.path)) not in ancestors:
                            waiting.append((entry.path, f"{prefix}{entry.name}/", ancestors | {identity}))
                    elif entry.is_symlink() or entry.is_file():  # a dangling link: load() says so
                        yield prefix + entry.name
        except OSError as error:
            raise ReaderError(f"{folder} cannot be listed: {error.strerror or error}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _matches(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return any(_matches(steps[skip:], pattern[1:]) for skip in range(len(steps) + 1))
    return bool(steps) and fnmatchcase(steps[0], pattern[0]) and _matches(steps[1:], pattern[1:])
