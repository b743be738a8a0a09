"""Values that a PDS label says are no measurement: saturation and missing data, of which GDAL knows one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LABEL = 1 << 18  # bytes of a file that hold its label
_PDS4 = re.compile(r"<(\w+:)?Special_Constants>(.*?)</(\w+:)?Special_Constants>", re.DOTALL)
_ELEMENT = re.compile(r"<(?:\w+:)?(\w+)[^>]*>\s*([^<>\s]+)\s*<")
_PDS3 = re.compile(r"^\s*\w*(?:_CONSTANT|NULL|_SATURATION)\s*=\s*(\S+)", re.MULTILINE)


def constants(handle: Any, kind: str) -> list[float]:
    """Of an open PDS3 or PDS4 dataset whose samples are of type `kind`; none of other formats."""
    files = handle.files
    if handle.driver not in ("PDS", "PDS4") or not files or not Path(files[0]).is_file():
        return []
    with Path(files[0]).open("rb") as file:
        label = file.read(LABEL).decode("latin-1")
    return [value for text in _texts(label) if (value := _number(text, np.dtype(kind))) is not None]


def _texts(label: str) -> Iterator[str]:
    for block in _PDS4.finditer(label):
        for name, text in _ELEMENT.findall(block[2]):
            if not name.startswith("valid_"):  # limits of what is valid, themselves valid
                yield text
    if "PDS_VERSION_ID" in label:
        yield from _PDS3.findall(label.partition("\nEND\r")[0].partition("\nEND\n")[0])


def _number(text: str, kind: np.dtype[Any]) -> float | None:
    """As text, 16#FF7FFFFB# or 0xFF7FFFFB, the bits of a sample; None for words such as N/A."""
    bits = re.fullmatch(r"(?:16#|0x)([0-9A-Fa-f]+)#?", text)
    try:
        if bits is None:
            return float(text.strip('"'))
        whole = int(bits[1], 16).to_bytes(kind.itemsize, "little")
    except (ValueError, OverflowError):
        return None
    return float(np.frombuffer(whole, kind.newbyteorder("<"))[0])
