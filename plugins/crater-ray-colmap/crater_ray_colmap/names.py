"""Names that COLMAP gives back as it was given them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from crater_ray.errors import UserError

_LOST = re.compile(
    r"\s|^#"
)  # COLMAP splits a pair at white space, and a line that begins with # is a comment


def colmap_name(name: str) -> str:
    """`name`, with what a pair list cannot hold as in a URL: "IMG 1.jpg" becomes "IMG%201.jpg".

    Raises UserError for what is no path below a folder.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise UserError(f"{name!r} is no path below a folder; give the image another id")
    return _LOST.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), name)


def check_unique(names: Mapping[str, str]) -> None:
    """Raises UserError that names two ids of one file; COLMAP's database has each name once."""
    of: dict[str, str] = {}
    for id, name in names.items():
        if (first := of.setdefault(name, id)) != id:
            raise UserError(
                f"ids {first!r} and {id!r} are both the file {name!r}, and COLMAP takes a file once; "
                f"list it under one of them"
            )
