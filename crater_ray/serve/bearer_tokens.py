"""Who may ask: bearer tokens out of a file, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from crater_ray.errors import ConfigError

SHORTEST = 16  # characters of a token
RIGHT = (
    f"write one token a line, {SHORTEST} ASCII characters or more, such as what `openssl rand -hex 32` prints"
)


class BearerTokens:
    """The tokens that open the service; with None every request passes."""

    def __init__(self, tokens: Sequence[str] | None) -> None:
        self._digests = None if tokens is None else [_digest(token.encode()) for token in tokens]

    def allow(self, authorization: str) -> bool:
        """Whether an Authorization header carries one of them. As long for a wrong one as for a right one."""
        if self._digests is None:
            return True
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip().encode("latin-1"))
        same = [hmac.compare_digest(given, digest) for digest in self._digests]  # every one, whatever comes
        return any(same) and scheme.lower() == "bearer"


def read_tokens(path: Path) -> list[str]:
    """One token a line; several let one be replaced while the other opens. A # begins a comment line.

    Raises ConfigError for a file that cannot be read, or that holds no token or one no caller could send.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the token file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8: {RIGHT}") from None
    lines = {number: line.strip() for number, line in enumerate(text.split("\n"), 1)}
    tokens = {number: line for number, line in lines.items() if line and not line.startswith("#")}
    if not tokens:
        raise ConfigError(f"{path} holds no token: {RIGHT}")
    for number, token in tokens.items():  # the token itself is never shown
        if len(token) < SHORTEST:
            raise ConfigError(f"{path}, line {number}: a token of {len(token)} characters: {RIGHT}")
        if not (token.isascii() and token.isprintable()):
            raise ConfigError(f"{path}, line {number}: a character that no header carries: {RIGHT}")
        if token.lower().startswith("bearer "):
            raise ConfigError(f"{path}, line {number}: leave the word Bearer out: {RIGHT}")
    return list(tokens.values())


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
