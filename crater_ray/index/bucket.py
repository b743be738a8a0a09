"""Objects under an s3:// address: read, written, and made only where there is none yet.

Credentials and endpoint are those of the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), or a role.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from crater_ray.errors import ConfigError, DamagedIndex, IndexMismatch, StorageError
from crater_ray.index.sealed import seal, unsealed
from crater_ray.jobfile import url_of

if TYPE_CHECKING:
    from obstore.store import S3Store

ORIGIN = "origin.json"  # the first object of an index: when it was begun, by an id of its own
CACHE = "CRATER_RAY_CACHE"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
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
        self._store = self._connected()

    def _connected(self) -> S3Store:
        from obstore.store import S3Store

        place, _, prefix = self.url.removeprefix("s3://").partition("/")
        if not place:
            raise ConfigError(f"{self.url} names no bucket; write it as s3://bucket/folder")
        for name in _ENDPOINTS:
            told = os.environ.get(name)
            if told is not None and not re.match(r"https?://[^/]", told):  # obstore would panic
                raise ConfigError(
                    f"{name} is {told!r}; set it to an address such as https://host, or unset it"
                )
        try:
            return S3Store(
                place,
                prefix=prefix or None,
                client_options={"connect_timeout": "3s", "timeout": "60s", "allow_http": _plain_http()},
                retry_config={
                    "max_retries": 4,
                    "retry_timeout": timedelta(seconds=60),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=3),
                        "base": 2,
                    },
                },
            )
        except Exception as error:  # obstore has a class of its own for each, and ValueError
            raise ConfigError(f"{self.url} cannot be used: {_first(error)}") from None

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
                self._refuse_missing_bucket(error)
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
                self._refuse_missing_bucket(error)
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
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (BaseError, TimeoutError, ValueError) as error:
            # a listing that is refused is a GenericError
            refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            if refused or re.search(r"status code: 40[13]\b", str(error)):
                said = (
                    f"{self.url} refuses these credentials ({_code(error)}); check AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY and what they may do there"
                )
                raise (StorageError(said) if self._answered else ConfigError(said)) from None
            if self._answered:
                raise StorageError(
                    f"{self.url}/{key}: the storage does not answer: {_first(error)}"
                ) from None
            raise ConfigError(self._unreachable(error)) from None
        self._answered = True

    def _unreachable(self, error: BaseException) -> str:
        text = str(error)
        if "NoSuchBucket" in text:
            return f"{self.url}: there is no such bucket; make it, or name another in `out`"
        where = next((os.environ[name] for name in _ENDPOINTS if name in os.environ), None)
        if "169.254" in text or "metadata" in text.lower() or "/api/token" in text:
            return (
                f"{self.url}: there are no credentials for it; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or give the machine a role (files below ~/.aws are not read)"
            )
        if where and where.startswith("http:") and not _plain_http():
            return f"{self.url}: AWS_ENDPOINT_URL is {where}, which is not https; set AWS_ALLOW_HTTP=true"
        hint = "is it right, and up?" if where else "set AWS_ENDPOINT_URL for storage that is not Amazon's"
        return f"{self.url} cannot be reached at {where or 'Amazon'}: {_first(error)}; {hint}"

    def _refuse_missing_bucket(self, error: FileNotFoundError) -> None:
        if "NoSuchBucket" in str(error):
            raise ConfigError(self._unreachable(error)) from None


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


def _plain_http() -> bool:
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"}


def _origin() -> bytes:
    return seal({"format": 1, "what": "crater-ray index", "born": uuid.uuid4().hex})


def _code(error: BaseException) -> str:
    """S3's own word for a refusal, such as SignatureDoesNotMatch."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else "403"


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


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
