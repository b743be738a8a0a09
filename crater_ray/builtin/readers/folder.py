"""Every image below a folder; each is its own group."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from crater_ray import image_files
from crater_ray.errors import ReaderError
from crater_ray.types import Item

# fmt: off
EXTENSIONS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".jpx",
    ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".heic", ".heif", ".hif",
))
UNREAD = frozenset((  # pictures too, but of formats that are not decoded
    ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw",
    ".exr", ".hdr", ".psd", ".svg", ".pdf", ".tga", ".jxr", ".img", ".cub", ".fits",
))
# fmt: on


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
        self._unread: Counter[str] = Counter()
        self._unnamed: list[str] = []

    def parts(self) -> list[str]:
        """Names by content. Raises ReaderError when there is no folder, or no image in it.

        Warns of pictures that are not listed since their format is not decoded, or their name is not UTF-8.
        """
        parts = list(self._parts)
        if self._unnamed:
            warnings.warn(
                f"{len(self._unnamed)} files below {self.root} are not indexed, since their names are not "
                f"UTF-8 (such as {os.fsencode(self._unnamed[0])!r}); rename them",
                stacklevel=2,
            )
        if self._unread:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self._unread.items()))
            warnings.warn(
                f"{sum(self._unread.values())} files below {self.root} are not indexed, since "
                f"their format is not read ({kinds}); convert them to PNG or TIFF",
                stacklevel=2,
            )
        return parts

    def read(self, part: str) -> Iterator[Item]:
        """The items of one part, sorted by id. Raises ReaderError for an unknown part."""
        if part not in self._parts:
            raise ReaderError(f"{self.root} has no part {part!r}; it changed since it was listed, run again")
        for id in self._ids[self._parts[part]]:
            yield Item(id, id, id, image_files.stamp(self.root, id))

    def load(self, uri: str) -> bytes:
        """The file's bytes. Raises BadImage when it is gone, ReaderError outside root, OSError."""
        return image_files.load(self.root, uri)

    @cached_property
    def _parts(self) -> dict[str, slice]:
        return image_files.cut(self._ids)

    @cached_property
    def _ids(self) -> list[str]:
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise ReaderError(f"{self.root} {what}; set root to the folder that holds the images")
        wanted = self.pattern.split("/")
        by_extension = "." not in wanted[-1]
        ids, self._unread, self._unnamed = [], Counter[str](), []
        for path in _walk(self.root):
            extension = os.path.splitext(path)[1].lower()
            if by_extension and extension not in EXTENSIONS and extension not in UNREAD:
                continue
            if self.pattern != "**/*" and not _matches(path.split("/"), wanted):
                continue
            if by_extension and extension in UNREAD:
                self._unread[extension] += 1
            elif not _is_text(path):
                self._unnamed.append(path)
            else:
                ids.append(path)
        ids.sort()
        if not ids:
            unread = f"; {sum(self._unread.values())} files of other formats" if self._unread else ""
            if self._unnamed:
                unread += f"; {len(self._unnamed)} names are not UTF-8"
            known = ", ".join(sorted(EXTENSIONS)) if by_extension else "any extension"
            raise ReaderError(
                f"no image below {self.root} matches {self.pattern!r} ({known}{unread}); "
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


def _is_text(path: str) -> bool:
    """Whether the name can be kept: bytes that are not UTF-8 arrive as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


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
