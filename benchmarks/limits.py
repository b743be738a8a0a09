"""A command inside a memory cgroup: by systemd-run, in a cgroup v2 of one's own, or in a folder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def why_not(folder: Path | None = None) -> str:
    """Why no memory cgroup can be had here; empty where one can."""
    if folder is not None:
        return "" if _limit(folder) else f"{folder} is no memory cgroup that may be written to"
    if Path("/run/systemd/system").is_dir() and shutil.which("systemd-run"):
        return ""
    if _delegated() is not None:
        return ""
    controllers = ROOT / "cgroup.controllers"
    found = controllers.read_text().split() if controllers.exists() else []
    told = (
        "cgroup v2 has the memory controller, but not in a folder of ours"
        if "memory" in found
        else ("cgroup v2 does not have the memory controller")
    )
    return f"systemd does not run here, and {told}; --cgroup names a folder that was made for it"


@contextmanager
def limited(size: int, folder: Path | None = None) -> Iterator[list[str]]:
    """The words to put before a command so that it has `size` bytes at most, pages of files too."""
    if folder is None and Path("/run/systemd/system").is_dir() and shutil.which("systemd-run"):
        yield ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0"]
        return
    own = None
    if folder is None:
        folder = own = (_delegated() or ROOT) / f"scale-{uuid.uuid4().hex[:8]}"
        own.mkdir()
    try:
        limit = _limit(folder)
        if limit is None:
            raise SystemExit(f"{folder} is no memory cgroup that may be written to")
        limit.write_text(str(size))
        yield ["sh", "-c", f'echo $$ > "{folder}/cgroup.procs" && exec "$@"', "sh"]
    finally:
        if own is not None:
            own.rmdir()


def _delegated() -> Path | None:
    """Our own cgroup v2, where it may be written to and hands the memory controller down."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    for line in lines:
        if line.startswith("0::"):
            own = ROOT / line[3:].lstrip("/")
            control = own / "cgroup.subtree_control"
            if control.exists() and "memory" in control.read_text().split() and os.access(own, os.W_OK):
                return own
    return None


def _limit(folder: Path) -> Path | None:
    """The file that takes the limit: of version 2, or of version 1."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if os.access(folder / name, os.W_OK):
            return folder / name
    return None
