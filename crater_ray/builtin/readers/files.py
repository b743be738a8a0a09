"""Files below a root: loaded by relative path, stamped by size and time."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

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
