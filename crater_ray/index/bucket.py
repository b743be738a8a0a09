"""Objects under an s3:// address: read, written, and made only where there is none yet."""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from crater_ray.errors import ConfigError, DamagedIndex, IndexMismatch, StorageError
from crater_ray.index.reach import connected, explained, refuse_missing_bucket
from crater_ray.index.sealed import seal, unsealed
from crater_ray.jobfile import url_of

ORIGIN = "origin.json"  # the first object of an index: when it was begun, by an id of its own
CACHE = "CRATER_RAY_CACHE"
_PIECE = 8 << 20  # of a request, up and down
_AT_ONCE = 4  # pieces of one upload
_CONFLICTS = (0.05, 0.2, 1.0, 3.0)  # seconds before a create is tried again that another's create disturbed


def cache_folder() -> Path:
    """Where copies of what lies on object storage are kept: $CRATER_RAY_CACHE, or below ~/.cache."""
    told = os.environ.get(CACHE)
    if told:
        return Path(told).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "crater-ray"


class Bucket:
    """What lies below an address; keys are relative to it. `copies` is where copies of it are kept.

    Every method raises StorageError when the storage does not answer or refuses; ConfigError the first time.
    """

    def __init__(self, url: str, copies: Path | None = None) -> None:
        self.url = url
        self._copies, self._born = copies, ""
        self._answered = False
        self._store = connected(url)

    def born(self) -> str | None:
        """The id under which the index was begun, None before."""
        if not self._born:
            data = self.get(ORIGIN)
            if data is None:
                return None
            self._born = str(unsealed(data, f"{self.url}/{ORIGIN}", "when the index was begun")["born"])
        return self._born

    def begin(self) -> None:
        """Makes it the place of an index.

        Raises IndexMismatch when it holds something else, ConfigError when it does no conditional puts: two
        drivers would then overwrite one another unseen.
        """
        if self.born() is None:
            foreign = self.names()
            if foreign and ORIGIN not in foreign:
                raise IndexMismatch(self.foreign(foreign))
            if self.create(ORIGIN, _origin()) and self.create(ORIGIN, _origin()):
                self.remove([ORIGIN])
                raise ConfigError(
                    f"{self.url}: this storage overwrites an object that is to be made only where there is "
                    "none (If-None-Match), so that no index is safe there; use another"
                )

    def foreign(self, names: Iterable[str]) -> str:
        """What to say of a place with those names in it, none of them an index's."""
        return (
            f"{self.url} is not an index: it holds {', '.join(sorted(names)[:3])}; name an index, or an "
            "empty or new place, in `out`"
        )

    def folder(self) -> Path:
        """Where its copies are, on this machine; a folder that is never made while nothing has been begun.

        An index that was deleted and begun again has another id, and so never meets the copies of the first.
        """
        if self._copies is not None:
            return self._copies
        name = re.sub(r"[^\w.-]+", "-", self.url.removeprefix("s3://").rpartition("/")[2])
        born = self.born()
        digest = xxhash.xxh3_64_hexdigest(f"{self.url} {born}".encode())
        every = cache_folder() / "indexes"
        if born is None:
            return every / f"{name}-{digest}.unborn"
        try:
            every.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{every} cannot be written ({error.strerror}); set {CACHE} to a folder for copies"
            ) from None
        self._copies = every / f"{name}-{digest}"
        return self._copies

    def get(self, key: str) -> bytes | None:
        """A whole object, None where there is none."""
        import obstore

        with self._spoken(key):
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                refuse_missing_bucket(self.url, error)
                return None

    def pieces(self, key: str, size: int) -> Iterator[memoryview]:
        """An object of `size` bytes, or what there is, in pieces. Raises DamagedIndex where there is none."""
        import obstore
        from obstore.exceptions import BaseError

        for first in range(0, size, _PIECE):
            length = min(_PIECE, size - first)
            with self._spoken(key):
                try:
                    piece = memoryview(obstore.get_range(self._store, key, start=first, length=length))
                except FileNotFoundError:
                    raise DamagedIndex(f"{self.url}/{key} is missing; {self.mend(key)}") from None
                except BaseError:
                    if obstore.head(self._store, key)["size"] > first:
                        raise
                    return  # a range that would begin at its end
            yield piece
            if len(piece) != length:
                return

    def put(self, key: str, data: bytes) -> None:
        import obstore

        with self._spoken(key):
            obstore.put(self._store, key, data)

    def create(self, key: str, data: bytes) -> bool:
        """True when the object is now there with our data, False when another's was first: exactly one wins.

        The data of two writers must differ. An answer may be lost after the object was made, and a refusal
        (409) may mean another create that then did not happen: what is there afterwards says which.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        for wait in (*_CONFLICTS, None):
            try:
                with self._spoken(key):
                    try:
                        obstore.put(self._store, key, data, mode="create")
                        return True
                    except (AlreadyExistsError, PreconditionError):
                        pass
            except StorageError:
                if self.get(key) == data:
                    return True
                raise
            there = self.get(key)
            if there is not None:
                return there == data
            if wait is not None:
                time.sleep(wait)
        raise StorageError(f"{self.url}/{key} is neither there nor can it be made; try again")

    def upload(self, key: str, path: Path) -> None:
        """A file's bytes as an object, in pieces where there are many."""
        import obstore

        with self._spoken(key):
            obstore.put(self._store, key, path, chunk_size=_PIECE, max_concurrency=_AT_ONCE)

    def names(self, folder: str = "") -> list[str]:
        """What stands below a folder: names of objects and of folders."""
        import obstore

        with self._spoken(folder):
            try:
                found = obstore.list_with_delimiter(self._store, folder or None)
            except FileNotFoundError as error:
                refuse_missing_bucket(self.url, error)
                return []
        paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        return sorted(path.rpartition("/")[2] for path in paths)

    def keys(self, folder: str) -> Iterator[str]:
        """Every object below a folder."""
        import obstore

        with self._spoken(folder):
            for some in obstore.list(self._store, folder, chunk_size=1000):
                yield from (one["path"] for one in some)

    def remove(self, keys: Iterable[str]) -> None:
        import obstore

        for key in keys:
            with self._spoken(key):
                obstore.delete(self._store, key)

    def mend(self, key: str) -> str:
        """What to do about an object that is not what it was."""
        folder = "/".join(key.split("/")[:2])
        return f"restore it, or remove all below {self.url}/{folder}/ and run `crater-ray index` again"

    @contextmanager
    def _spoken(self, key: str) -> Iterator[None]:
        """Turns what obstore raises into errors of ours; FileNotFoundError passes."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, TimeoutError, ValueError) as error:
            raise explained(self.url, key, error, self._answered) from None
        self._answered = True


_BUCKETS: dict[tuple[str, str, str], Bucket] = {}


def bucket(root: Path) -> Bucket | None:
    """What an address names, None for a folder. Raises ConfigError for storage that is not s3://."""
    url = url_of(root)
    if url is None:
        return None
    key = _key(url)
    if key not in _BUCKETS:
        _BUCKETS[key] = Bucket(url)
    return _BUCKETS[key]


def folder(root: Path) -> Path:
    """Where the files of an index are on this machine: the folder it is, or that of the copies of one."""
    where = bucket(root)
    return root if where is None else where.folder()


def only_on_disk(root: Path, what: str) -> None:
    """Raises ConfigError where what is asked for cannot be done on object storage."""
    url = url_of(root)
    if url is not None:
        raise ConfigError(f"{url}: {what}")


def _origin() -> bytes:
    return seal({"format": 1, "what": "crater-ray index", "born": uuid.uuid4().hex})


@contextmanager
def afresh(root: Path) -> Iterator[None]:
    """Inside, copies made before are not believed: there are new ones, which are gone outside."""
    url = url_of(root)
    if url is None:
        yield
        return
    before = bucket(root)
    (cache_folder() / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder() / "tmp") as own:
        _BUCKETS[_key(url)] = Bucket(url, Path(own))
        try:
            yield
        finally:
            if before is not None:
                _BUCKETS[_key(url)] = before


def _key(url: str) -> tuple[str, str, str]:
    told = sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_"))
    return url, str(cache_folder()), xxhash.xxh3_64_hexdigest(repr(told).encode())
