"""Objects under an s3:// address: read, written, and made only where there is none yet; no torch, no files.

Credentials and endpoint are those of the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), or a role.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from crater_ray.errors import ConfigError, CraterRayError, DamagedIndex, StorageError

if TYPE_CHECKING:
    from obstore.store import S3Store

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_PIECE = 8 << 20  # of a request, up and down
_AT_ONCE = 4  # pieces of one upload
_LISTED = 1000  # objects of one request that lists or removes them
_CONFLICTS = (0.05, 0.2, 1.0, 3.0)  # seconds before a create is tried again that another's create disturbed


@dataclass(frozen=True, slots=True)
class Object:
    """An object as the storage lists it."""

    key: str
    bytes: int
    written: datetime  # by the storage's clock


class Bucket:
    """What lies below an address; keys are relative to it.

    Every method raises StorageError when the storage does not answer or refuses; ConfigError the first time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._answered = False
        self._store = connected(url)

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
        for first in range(0, size, _PIECE):
            stop = min(first + _PIECE, size)
            yield (piece := self.part(key, first, stop))
            if len(piece) != stop - first:
                return

    def part(self, key: str, first: int, stop: int) -> memoryview:
        """Those bytes of an object, or what there is of them. Raises DamagedIndex where there is none."""
        import obstore
        from obstore.exceptions import BaseError

        with self._spoken(key):
            try:
                return memoryview(obstore.get_range(self._store, key, start=first, end=stop))
            except FileNotFoundError:
                raise DamagedIndex(f"{self.url}/{key} is missing; {self.repair_hint(key)}") from None
            except BaseError:
                if obstore.head(self._store, key)["size"] > first:
                    raise
                return memoryview(b"")  # a range that would begin at its end

    def put(self, key: str, data: bytes) -> None:
        import obstore

        with self._spoken(key):
            obstore.put(self._store, key, data)

    def put_if_allowed(self, key: str, data: bytes) -> bool:
        """False where these credentials may not write."""
        import obstore
        from obstore.exceptions import BaseError

        with self._spoken(key):
            try:
                obstore.put(self._store, key, data)
            except BaseError as error:
                if not _refused(error):
                    raise
                return False
        return True

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
        """Every object below a folder, by key."""
        return (one.key for one in self.objects(folder))

    def objects(self, folder: str) -> Iterator[Object]:
        """Every object below a folder, with what the storage knows of it."""
        import obstore

        with self._spoken(folder):
            for some in obstore.list(self._store, folder or None, chunk_size=_LISTED):
                for one in some:
                    yield Object(one["path"], one["size"], one["last_modified"])

    def written(self, key: str) -> datetime | None:
        """When an object was written, by the storage's clock; None where there is none."""
        import obstore

        with self._spoken(key):
            try:
                return obstore.head(self._store, key)["last_modified"]
            except FileNotFoundError:
                return None

    def remove(self, keys: Iterable[str]) -> None:
        """Removes objects; one that is not there is no error."""
        import obstore

        gone = list(keys)
        for first in range(0, len(gone), _LISTED):
            with self._spoken(gone[first]):
                obstore.delete(self._store, gone[first : first + _LISTED])

    def repair_hint(self, key: str) -> str:
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


def connected(url: str) -> S3Store:
    """What obstore reads and writes below `url` with; nothing is asked yet. Raises ConfigError."""
    from obstore.store import S3Store

    name, _, prefix = url.removeprefix("s3://").partition("/")
    if not name:
        raise ConfigError(f"{url} names no bucket; write it as s3://bucket/folder")
    for variable in _ENDPOINTS:
        told = os.environ.get(variable)
        if told is not None and not re.match(r"https?://[^/]", told):  # obstore would panic
            raise ConfigError(
                f"{variable} is {told!r}; set it to an address such as https://host, or unset it"
            )
    try:
        return S3Store(
            name,
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
        raise ConfigError(f"{url} cannot be used: {_first(error)}") from None


def explained(url: str, key: str, error: BaseException, answered: bool) -> CraterRayError:
    """The error to raise for one of obstore's.

    ConfigError, what the user can mend, unless the storage has `answered` before; then StorageError.
    """
    if _refused(error):
        code = re.search(r"<Code>(\w+)</Code>", str(error))  # S3's own word, such as SignatureDoesNotMatch
        said = (
            f"{url} refuses these credentials ({code[1] if code else 403}); check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and what they may do there"
        )
        return StorageError(said) if answered else ConfigError(said)
    if answered:
        return StorageError(f"{url}/{key}: the storage does not answer: {_first(error)}")
    return ConfigError(_unreachable(url, error))


def _refused(error: BaseException) -> bool:
    """Whether the storage knows these credentials and says no, or does not know them."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return True
    return bool(re.search(r"status code: 40[13]\b", str(error)))  # a listing gives a GenericError


def refuse_missing_bucket(url: str, error: FileNotFoundError) -> None:
    """Raises ConfigError where it is not just an object that is not there."""
    if "NoSuchBucket" in str(error):
        raise ConfigError(_unreachable(url, error)) from None


def _unreachable(url: str, error: BaseException) -> str:
    text = str(error)
    if "NoSuchBucket" in text:
        return f"{url}: there is no such bucket; make it, or name another in `out`"
    where = next((os.environ[name] for name in _ENDPOINTS if name in os.environ), None)
    if "169.254" in text or "metadata" in text.lower() or "/api/token" in text:  # where roles are asked for
        return (
            f"{url}: there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "give the machine a role (files below ~/.aws are not read)"
        )
    if where and where.startswith("http:") and not _plain_http():
        return f"{url}: AWS_ENDPOINT_URL is {where}, which is not https; set AWS_ALLOW_HTTP=true to allow it"
    hint = "is it right, and up?" if where else "set AWS_ENDPOINT_URL for storage that is not Amazon's"
    return f"{url} cannot be reached at {where or 'Amazon'}: {_first(error)}; {hint}"


def _plain_http() -> bool:
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"}


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
