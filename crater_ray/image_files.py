"""What readers of files share: sorted ids cut into parts, files below a root loaded and stamped."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xxhash import xxh64_hexdigest, xxh64_intdigest

from crater_ray.errors import BadImage, ReaderError

# no retry helps
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


def load(root: Path, uri: str) -> bytes:
    """The bytes of root/uri. Raises BadImage when it is gone, ReaderError outside root, OSError."""
    try:
        return below(root, uri).read_bytes()
    except OSError as error:
        if error.errno in _GONE:
            raise BadImage("file is gone") from None
        raise


def stamp(root: Path, uri: str) -> str:
    """Size and time of change; "gone" when there is no such file, which load() then reports.

    Not a hash of the bytes: listing 10^7 images would read them all. A copy that does not keep times is
    encoded again, which costs time but is never wrong.
    """
    try:
        status = below(root, uri).stat()
    except OSError as error:
        if error.errno in _GONE:
            return "gone"
        raise
    return f"{status.st_size}-{status.st_mtime_ns}"


def below(root: Path, uri: str) -> Path:
    """root/uri. Lexical: a symlink inside the root is its owner's choice. Raises ReaderError."""
    steps = PurePosixPath(uri)
    if steps.is_absolute() or ".." in steps.parts or not steps.parts or "\0" in uri:
        raise ReaderError(f"{uri!r} leads out of {root}; paths must be relative to it and without '..'")
    return root / steps


MASK = 511  # a part ends after an id whose hash ends in these bits as zeros: 512 items on average
MOST = 4096  # and here at the latest; a run this long without such an id is one in 3,000


def cut(ids: Sequence[str], *, mask: int = MASK, most: int = MOST) -> dict[str, slice]:
    """Part name -> the slice of `ids` it holds, in order; the parts are disjoint and cover all.

    ids: sorted and unique. Where a part ends depends on the ids near it alone: one id more or less changes
    the part it falls in (or splits it, or joins two). Names are hashes of a part's first id: file-name safe.
    Raises ReaderError for an id that is not UTF-8, ValueError when ids are not sorted and unique.
    """
    parts: dict[str, slice] = {}
    start = 0
    for number, id in enumerate(ids):
        if number and ids[number - 1] >= id:
            raise ValueError(f"ids must be sorted and unique; {ids[number - 1]!r} stands before {id!r}")
        if not _hash(id) & mask or number + 1 - start == most or number + 1 == len(ids):
            parts[xxh64_hexdigest(ids[start].encode())] = slice(start, number + 1)
            start = number + 1
    return parts


def _hash(id: str) -> int:
    try:
        return xxh64_intdigest(id.encode())
    except UnicodeEncodeError:
        raise ReaderError(f"{id!r} is not valid UTF-8 and cannot be an id; rename the file") from None
