"""COLMAP's database as a file: SQLite in WAL mode, so three files that belong together."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

NAME = "database.db"


def copy(source: Path, target: Path) -> None:
    """`target` made anew of `source` and what its -wal holds; a leftover -wal or -shm of `target` goes first.

    SQLite would play a stranger's -wal into the new file. Whole or not at all.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}")
    remove(part)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
    remove(target)
    part.replace(target)


def remove(path: Path) -> None:
    """The database with its -wal and -shm, as far as they are there."""
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        one.unlink(missing_ok=True)
