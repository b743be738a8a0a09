"""The way to an s3:// address, and what to say when there is none: no torch, no files.

Credentials and endpoint are those of the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), or a role.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from crater_ray.errors import ConfigError, CraterRayError, StorageError

if TYPE_CHECKING:
    from obstore.store import S3Store

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


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
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if refused or re.search(
        r"status code: 40[13]\b", str(error)
    ):  # a listing that is refused is a GenericError
        code = re.search(r"<Code>(\w+)</Code>", str(error))  # S3's own word, such as SignatureDoesNotMatch
        said = (
            f"{url} refuses these credentials ({code[1] if code else 403}); check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and what they may do there"
        )
        return StorageError(said) if answered else ConfigError(said)
    if answered:
        return StorageError(f"{url}/{key}: the storage does not answer: {_first(error)}")
    return ConfigError(_unreachable(url, error))


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
