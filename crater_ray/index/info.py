"""What an index holds, in a few numbers; and its parts, one line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crater_ray.index.snapshot import Snapshot, owners
from crater_ray.index.store import FITTED, Store
from crater_ray.index.versions import numbers, union_schema


@dataclass(frozen=True, slots=True)
class Line:
    """A part as its reader names it, wherever its rows stand."""

    name: str
    digest: str
    rows: int
    skipped: int
    bytes: int  # its share of the compacted part's where it stands in one
    reader: str
    compacted: str  # "": it is a folder of its own
    segment: str  # "": it has no rows


def inventory(store: Store, version: int | None = None) -> list[Line]:
    """Every part of the current version, or of the one named, by name.

    Raises IndexMismatch, DamagedIndex.
    """
    snapshot = Snapshot(store, version)
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


def info(store: Store) -> dict[str, Any]:
    """What an index holds, JSON-safe. Raises IndexMismatch, DamagedIndex."""
    snapshot = Snapshot(store)
    config, version = snapshot.config, snapshot.version
    return {
        "root": store.url,
        "format": config.format,
        "side": config.side,
        "config": config.digest(),
        "version": version.number,
        "versions": numbers(snapshot.store),
        "images": len(snapshot),
        "skipped": version.skipped,
        "parts": len(version.parts),
        "missing": list(version.allow_missing),
        "segments": [
            {
                "sha": segment.sha,
                "factory": segment.factory,
                "rows": segment.rows,
                "fitted": segment.fitted,
                "quantizer": segment.quantizer,
                "tuning": segment.tuning,
            }
            for segment in snapshot.segments
        ],
        "backbone": asdict(config.backbone),
        "backbone_digest": config.backbone_digest,
        "shortlist": {**asdict(config.shortlist), "vectors": config.shortlist_m, "dim": config.shortlist_dim},
        "rerank": {
            **asdict(config.rerank),
            "tokens": config.k,
            "dim": config.dim,
            "codec": config.codec,
            "scoring": config.scoring,
        },
        "precision": config.precision,
        "batch": config.batch,
        "readers": [asdict(ref) for ref in version.readers],
        "columns": {
            field.name: str(field.type)
            for field in union_schema((part.entry.name, part.schema) for part in snapshot.parts)
        },
        "bytes_per_image": snapshot.bytes_per_image(),
        "fitted": [f"{FITTED}/{sha}.safetensors" for sha in config.fits.values()],
    }
