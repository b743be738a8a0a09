"""Where an index lies: a folder, or object storage with a cache of its files here. Keys are relative to it.

A file never changes under its key, but for index.json. A part or segment is a folder whose record (part.json,
segment.json) is written last: it is there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.files import Sum, make_folder, move_folder, new_folder, write_new, write_whole
from crater_ray.jobfile import url_of

CONFIG, FITTED, PARTS, SEGMENTS, VERSIONS, TMP, LOCK = (
    "index.json",
    "fitted",
    "parts",
    "segments",
    "versions",
    "tmp",
    ".lock",
)
PART, SEGMENT = "part.json", "segment.json"  # the records
GONE = ".gone"  # of what is on its way out
ORIGIN = "origin.json"  # the first object of an index on object storage: its uuid
_BEFORE_CONFIG = {FITTED, TMP, LOCK, "lost+found"}  # what a place may hold and still count as new
_TRIES = 8  # at replacing a damaged folder that another driver may be replacing too

Check = Callable[[bytes, str], object]  # data and where it is from; raises for what must not be used


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of an index, the key under which object storage has it, and what it holds."""

    path: Path
    key: str
    told: Sum

    @property
    def there(self) -> bool:
        try:
            return os.stat(self.path).st_size == self.told.bytes
        except FileNotFoundError:
            return False


class Store(Protocol):
    """What an index needs of the place where it lies. Pickles as its address.

    Every method raises StorageFull, and on object storage StorageError when it does not answer or refuses;
    ConfigError the first time.
    """

    @property
    def url(self) -> str:
        """The address, as people write it."""

    @property
    def local(self) -> Path:
        """The folder of its files on this machine: itself, or a cache."""

    @property
    def grace(self) -> timedelta:
        """How long what was replaced stays for those who cannot say that they read it."""

    def inside(self, name: str) -> Store:
        """A place of its own below this one."""

    def as_folder(self, why: str) -> Path:
        """The folder it is. Raises ConfigError, which says `why` it must be one."""

    def begin(self) -> None:
        """Makes it the place of an index. Raises IndexMismatch where it holds something else."""

    def names(self, folder: str = "") -> list[str]:
        """What stands in a folder, wherever it lies; nothing in one that is not there."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all that stands in a folder, by name; of a folder in it, of all below."""

    def age(self, key: str) -> timedelta:
        """How long ago a file was written, or the newest below a folder; by the clock of what keeps it."""

    def unfinished(self) -> list[str]:
        """Keys below which uploads were left that no record names."""

    def fetch(self, key: str, check: Check | None = None, *, fresh: bool = False) -> bool:
        """Whether a small file is there, and a checked copy of it now at local / key.

        A file with a checksum of its own needs no `check`. `fresh`: it may have changed since it was copied.
        """

    def fetch_all(self, keys: Sequence[str]) -> None:
        """Fetches many at once; one that is not there is left to whoever needs it."""

    def download(self, copies: Iterable[Copy], *, repair: bool = False) -> None:
        """Makes what is not here yet, each file whole and checked, or not at all.

        `repair` reads those that are here as well. Raises DamagedIndex naming the object that is gone or not
        what was written.
        """

    def read(self, copy: Copy, first: int, stop: int) -> bytes | memoryview:
        """Bytes of a file, wherever it is. Raises DamagedIndex for one that is missing or has fewer."""

    def no_cache(self) -> AbstractContextManager[Store]:
        """The same place with no file copied yet; its copies go at the end."""

    def put(self, key: str, data: bytes) -> None:
        """The file holds `data`, all of it or as it was before."""

    def create(self, key: str, data: bytes) -> bool:
        """True when the file is now there with our data, False when another's was first: one writer wins."""

    def rename(self, key: str, new: str) -> None:
        """Gives a small file another name. Killed half way, both are there."""

    def remove(self, key: str) -> None:
        """Removes a file."""

    def remove_all(self, key: str, record: str = "") -> None:
        """Removes a file, or a folder that is no more once its `record` has gone."""

    def end_removals(self) -> None:
        """Removes what a killed `remove_all` of a folder left."""

    def reading(self, number: int) -> Callable[[], None] | None:
        """Tells other machines that a version is read here, until the call; None where it has gone."""

    def readers(self) -> set[int]:
        """Versions that are read on other machines."""

    def writing(self) -> AbstractContextManager[None]:
        """Holds `collecting` off on other machines. Raises IndexMismatch where one is at it."""

    def collecting(self) -> AbstractContextManager[None]:
        """Holds `writing` off on other machines. Raises IndexMismatch where one is at it."""

    def commit_id(self) -> str:
        """What a record must hold to be told from another's; nothing in a folder, where a rename decides."""

    def publish(
        self, own: Path, folder: str, record: str, commit_id: str, standing: Callable[[], bool]
    ) -> bool:
        """True when the files of `own` now stand as `folder`, False when another's stand there.

        `standing()` says whether what is there is whole; in a folder it is replaced if it is not. `record`
        is the file that holds the commit_id. Raises IndexMismatch, DamagedIndex.
        """


@dataclass(frozen=True, slots=True)
class FolderStore:
    """An index in a folder."""

    local: Path
    grace = timedelta()  # locks tell who reads

    @property
    def url(self) -> str:
        return str(self.local)

    def inside(self, name: str) -> Store:
        return FolderStore(self.local / name)

    def as_folder(self, why: str) -> Path:
        return self.local

    def begin(self) -> None:
        check_place(self)
        make_folder(self.local)

    def names(self, folder: str = "") -> list[str]:
        path = self.local / folder
        if folder or path.is_dir() or not path.exists():
            return sorted(os.listdir(path)) if path.is_dir() else []
        raise IndexMismatch(f"{path} is not an index: it is a file; name a folder in `out`")

    def sizes(self, folder: str) -> dict[str, int]:
        return {name: _size(self.local / folder / name) for name in self.names(folder)}

    def age(self, key: str) -> timedelta:
        return timedelta(seconds=max(0.0, time.time() - (self.local / key).stat().st_mtime))

    def unfinished(self) -> list[str]:
        return []  # attempts are in tmp/

    def fetch(self, key: str, check: Check | None = None, *, fresh: bool = False) -> bool:
        return os.path.lexists(self.local / key)

    def fetch_all(self, keys: Sequence[str]) -> None:
        pass

    def download(self, copies: Iterable[Copy], *, repair: bool = False) -> None:
        pass

    def read(self, copy: Copy, first: int, stop: int) -> bytes | memoryview:
        with open(copy.path, "rb") as file:
            return os.pread(file.fileno(), stop - first, first)

    def no_cache(self) -> AbstractContextManager[Store]:
        return nullcontext(self)

    def put(self, key: str, data: bytes) -> None:
        write_whole(self.local / key, data, self.local / TMP)

    def create(self, key: str, data: bytes) -> bool:
        return write_new(self.local / key, data, self.local / TMP)

    def rename(self, key: str, new: str) -> None:
        os.rename(self.local / key, self.local / new)

    def remove(self, key: str) -> None:
        (self.local / key).unlink(missing_ok=True)

    def remove_all(self, key: str, record: str = "") -> None:
        path = self.local / key
        if path.is_file():
            path.unlink()
            return
        aside = path.with_name(f".{path.name}{GONE}")  # what is half removed must not look like a part
        os.rename(path, aside)
        shutil.rmtree(aside)

    def end_removals(self) -> None:
        for folder in (PARTS, SEGMENTS):
            for path in (self.local / folder).glob(f".*{GONE}"):
                shutil.rmtree(path)

    def reading(self, number: int) -> Callable[[], None] | None:
        return _nothing

    def readers(self) -> set[int]:
        return set()

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def collecting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def commit_id(self) -> str:
        return ""

    def publish(
        self, own: Path, folder: str, record: str, commit_id: str, standing: Callable[[], bool]
    ) -> bool:
        target = self.local / folder
        for _ in range(_TRIES):
            if move_folder(own, target):
                return True
            if standing():
                return False
            set_aside(target, self.local / TMP)
        raise IndexMismatch(
            f"{target} keeps coming back damaged while it is replaced; "
            "stop other drivers of this index and run the command again"
        )


def _nothing() -> None:
    """There is nothing to release."""


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def store_at(address: str | Path) -> Store:
    """The store of an address: a folder's path, or s3://bucket/folder. Raises ConfigError for any other."""
    url = url_of(address)
    if url is None:
        return FolderStore(Path(address))
    from crater_ray.index.object_store import ObjectStore

    return ObjectStore(url)


def attempt(store: Store, name: str) -> Path:
    """A new folder of our own under tmp/. Raises StorageFull."""
    return new_folder(store.local / TMP, name)


def set_aside(damaged: Path, tmp: Path) -> None:
    """Moves a damaged folder into `tmp`, where it harms nobody; another driver may be faster."""
    aside = new_folder(tmp, f"damaged.{damaged.name}")
    try:
        damaged.rename(aside)  # onto our own empty folder
    except FileNotFoundError:
        aside.rmdir()


def check_place(store: Store) -> None:
    """Raises IndexMismatch when a place holds something else, DamagedIndex for a lost index.json."""
    names = store.names()
    if CONFIG in names:
        return
    if {PARTS, VERSIONS} <= set(names):
        raise DamagedIndex(
            f"{store.url}/{CONFIG} is missing beside the parts it made; restore it from a copy"
        )
    others = [name for name in names if name not in _BEFORE_CONFIG]
    if others and ORIGIN not in names:
        raise foreign(store, others)


def foreign(store: Store, names: Sequence[str]) -> IndexMismatch:
    """The error to raise for a place with those names in it, none of them an index's."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return IndexMismatch(
        f"{store.url} is not an index: it holds {', '.join(names[:3])}{more}; "
        "name an index; a job's `out` may be a new or empty folder too"
    )
