"""Who may ask: bearer tokens out of a file, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from crater_ray.errors import ConfigError

SHORTEST = 16  # characters of a token


class Tokens:
    """The tokens that open the service; with None every request passes."""

    def __init__(self, tokens: Sequence[str] | None) -> None:
        self._digests = None if tokens is None else [_digest(token.encode()) for token in tokens]

    def allow(self, authorization: bytes) -> bool:
        """Whether an Authorization header carries one of them. As long for a wrong one as for a right one."""
        if self._digests is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        asked = _digest(given.strip())
        same = [hmac.compare_digest(asked, digest) for digest in self._digests]  # every one, whatever comes
        return any(same) and scheme.lower() == b"bearer"


def read_tokens(path: Path) -> list[str]:
    """One token a line; several let one be replaced while the other still opens.

    Raises ConfigError for a file that cannot be read, or that holds no token or a short one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {path}: {error}") from None
    tokens = [line.strip() for line in lines if line.strip()]
    if not tokens or any(len(token) < SHORTEST or not token.isascii() for token in tokens):
        raise ConfigError(
            f"{path}: write one token a line, {SHORTEST} ASCII characters or more, "
            "such as what `openssl rand -hex 32` prints"
        )
    return tokens


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
