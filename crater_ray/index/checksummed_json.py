"""JSON files that carry their own checksum, so that one flipped bit is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch

FORMAT = 1


def checksummed(payload: Mapping[str, Any]) -> bytes:
    """JSON that carries its own checksum, the same bytes for the same payload."""
    digest = xxhash.xxh3_128_hexdigest(canonical(payload))
    return (json.dumps({**payload, "checksum": digest}, indent=1, sort_keys=True) + "\n").encode()


def read_checksummed(path: Path, what: str) -> dict[str, Any]:
    """The payload of a sealed file.

    Raises DamagedIndex when it is missing or any byte differs, IndexMismatch when a newer version wrote it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedIndex(f"{path} is missing: {what}") from None
    return parse_checksummed(data, str(path), what)


def parse_checksummed(data: bytes, path: str, what: str) -> dict[str, Any]:
    """As `unseal`, of what was read from `path`."""
    try:
        payload = json.loads(data)
        found = payload.pop("format", None), payload.pop("checksum", None)
    except (ValueError, AttributeError):
        raise DamagedIndex(f"{path} cannot be read as JSON: {what}; restore it from a copy") from None
    if isinstance(found[0], int) and found[0] > FORMAT:
        raise IndexMismatch(
            f"{path} was written by a newer crater-ray (format {found[0]}, "
            f"this one reads {FORMAT}); upgrade crater-ray"
        )
    payload["format"] = found[0]
    if data != checksummed(payload):
        raise DamagedIndex(f"{path} does not match its checksum: {what}; restore it from a copy")
    return dict(payload)


def canonical(payload: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """One spelling of plain data, to be hashed. `default` makes the rest plain."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), default=default).encode()
