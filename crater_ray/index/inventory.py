"""The parts of a version, one line each: what growth adds, replaces and drops by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crater_ray.index.opened import Snapshot, owners


@dataclass(frozen=True, slots=True)
class Line:
    """A part as its reader names it, wherever its rows stand."""

    name: str
    digest: str
    rows: int
    skipped: int
    bytes: int  # its share of the pack's where it stands in one
    reader: str
    pack: str  # "": it is a folder of its own
    segment: str  # "": it has no rows


def inventory(root: Path, version: int | None = None) -> list[Line]:
    """Every part of the version in force, or of the one named, by name.

    Raises IndexMismatch, DamagedIndex.
    """
    snapshot = Snapshot(Path(root), version)
    lines: list[Line] = []
    shas = owners(snapshot.version, snapshot.segments)
    for part, sha in zip(snapshot.parts, shas, strict=True):
        entry, record = part.entry, part.record
        size = sum(told.bytes for told in record.files.values())
        reader = snapshot.version.readers[entry.reader].name
        inside = [(one.name, one.digest, one.rows, len(one.skipped)) for one in record.members]
        plain = [(entry.name, entry.digest, entry.rows, entry.skipped)]
        lines += [
            Line(
                *one,
                size if not inside else size * one[2] // max(entry.rows, 1),
                reader,
                entry.name if inside else "",
                (sha or "") if one[2] else "",
            )
            for one in inside or plain
        ]
    return sorted(lines, key=lambda line: line.name)
