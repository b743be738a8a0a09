"""What an index holds: as facts that people read, as numbers, and its parts, one line each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crater_ray.index.snapshot import Snapshot, owners
from crater_ray.index.store import FITTED, Store
from crater_ray.index.versions import numbers

REASONS = 5  # of skipped items that are named


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


def facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What an opened version holds, a name and a line each."""
    config, version, sizes = snapshot.config, snapshot.version, snapshot.bytes_per_image()
    total = sizes.pop("total")
    told = [
        ("version", f"{version.number}; published: {', '.join(map(str, numbers(snapshot.store)))}"),
        ("views", _views(snapshot)),
        ("skipped", _skipped(skipped_items(snapshot))),
        ("parts", f"{len(version.parts)}, in {_several(len(snapshot.segments), 'segment')} of the shortlist"),
        ("backbone", f"{config.backbone.name}, weights {config.backbone_digest}"),
        ("shortlist", f"{config.shortlist.name}: {config.shortlist_m} × {config.shortlist_dim}"),
        *(("", segment.told()) for segment in snapshot.segments),
        ("tokens", f"{config.rerank.name}: {config.k} × {config.dim}, {config.codec}, {config.scoring}"),
        ("learnt", ", ".join([*config.fits, *_whitening(snapshot)]) or "nothing"),
        ("bytes", f"{total:,.0f} a view, {_size(total * len(snapshot))} in all"),
        ("", ", ".join(f"{stage} {size:,.0f}" for stage, size in sizes.items())),
        ("readers", ", ".join(dict.fromkeys(ref.name for ref in version.readers)) or "none"),
        ("columns", ", ".join(snapshot.columns)),
    ]
    if version.allow_missing:
        told.append(("missing", ", ".join(version.allow_missing)))
    return told


def _size(count: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} kB"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _views(snapshot: Snapshot) -> str:
    told = f"{len(snapshot):,}"
    if "body" not in snapshot.columns or not len(snapshot):
        return told
    found = pc.value_counts(snapshot.items(["body"]).column("body").cast(pa.string())).to_pylist()
    found.sort(key=lambda one: (-one["counts"], str(one["values"])))
    return f"{told}: " + ", ".join(f"{one['values'] or 'no body'} {one['counts']:,}" for one in found)


def _whitening(snapshot: Snapshot) -> list[str]:
    return ["whitening of the shortlist"] if any(one.fitted for one in snapshot.segments) else []


def skipped_items(snapshot: Snapshot) -> dict[str, str]:
    """id -> why it was skipped, over all parts."""
    found: dict[str, str] = {}
    for part in snapshot.parts:
        found |= part.record.skipped
        for member in part.record.members:
            found |= member.skipped
    return found


def _skipped(items: Mapping[str, str]) -> str:
    """How many, and how often for which reason; numbers in a reason do not make it another."""
    if not items:
        return "0"
    plain = [reason.partition(";")[0] for reason in items.values()]
    kinds: dict[str, Counter[str]] = {}
    for reason in plain:
        kinds.setdefault(re.sub(r"\d+", "N", reason), Counter())[reason] += 1
    reasons = Counter({kind: found.total() for kind, found in kinds.items()})
    told = [
        f"{count} {'such as ' if len(kinds[kind]) > 1 else ''}{next(iter(kinds[kind]))}"
        for kind, count in reasons.most_common(REASONS)
    ]
    more = sum(reasons.values()) - sum(count for _, count in reasons.most_common(REASONS))
    return f"{len(items)}: " + "; ".join(told) + (f"; {more} for other reasons" if more else "")


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
        "columns": snapshot.columns,
        "bytes_per_image": snapshot.bytes_per_image(),
        "fitted": [f"{FITTED}/{sha}.safetensors" for sha in config.fits.values()],
    }
