"""The cache of frozen features: hidden tokens before the trained blocks, computed once an image.

<cache>/<digest>.npy (n, prefix + T, D) float16 and <digest>.json with its bad images; up to SHARD rows each,
all of one role, so that runs which differ in what they train on share what is held out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from crater_ray.encode.device import whole_or_halves
from crater_ray.files import whole_file, write_whole
from crater_ray.plugins import registry
from crater_ray.precision import Precision, in_bfloat16
from crater_ray_supscene.training.pictures import Pictures
from crater_ray_supscene.training.plan import TrainingPlan

SHARD = 256  # images of a file
BATCH = 32
SPARE = 2 * 2**30  # bytes of the disk that a cache leaves free
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Shard:
    """Some rows of a plan, and where their hidden tokens are or will be."""

    rows: tuple[int, ...]
    path: Path

    @property
    def done(self) -> bool:
        return self.path.with_suffix(".json").exists()


def shards(plan: TrainingPlan, cache: Path, digest: str, blocks: int, precision: str) -> list[Shard]:
    """All rows of a plan in files named by what decides their bytes, so that jobs share what they share."""
    readers = [json.dumps(asdict(registry().chosen(ref)), sort_keys=True) for ref in plan.readers]
    columns = [plan.images[key].to_pylist() for key in ("reader", "uri", "stamp")]
    roles = np.array(plan.images["role"].to_pylist(), object)
    starts = {0, *(np.flatnonzero(roles[1:] != roles[:-1]) + 1).tolist(), len(plan)}
    edges = sorted(starts)
    cuts = [(a, min(a + SHARD, end)) for start, end in pairwise(edges) for a in range(start, end, SHARD)]
    found = []
    for first, last in cuts:
        rows = range(first, last)
        hasher = xxhash.xxh3_128(f"{digest} {blocks} {precision}".encode())
        for row in rows:
            reader, uri, stamp = (column[row] for column in columns)
            hasher.update(json.dumps([readers[reader], uri, stamp]).encode())
        found.append(Shard(tuple(rows), cache / f"{hasher.hexdigest()}.npy"))
    return found


def fits(missing: Sequence[Shard], row_bytes: int, cache: Path) -> bool:
    """Whether the disk has room for what is missing."""
    cache.mkdir(parents=True, exist_ok=True)
    needed = sum(len(shard.rows) for shard in missing) * row_bytes
    return needed + SPARE < shutil.disk_usage(cache).free


def fill(
    shard: Shard,
    pictures: Pictures,
    frozen: Callable[[Tensor], Tensor],
    size: Sequence[int],
    precision: Precision,
    device: str = "cpu",
) -> None:
    """Computes one shard; nothing if it is there. Atomic. size: of an image's tensor, (3, S, S)."""
    if shard.done:
        return
    short, on = in_bfloat16(precision, device), torch.device(device)

    def computed(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=short):
            return frozen(images.to(on)).float().clamp(-LARGEST, LARGEST).half().cpu()

    parts: list[NDArray[np.float16]] = []
    bad: dict[int, str] = {}
    for first in range(0, len(shard.rows), BATCH):
        loaded = pictures.load(shard.rows[first : first + BATCH])
        bad |= {first + at: reason for at, reason in enumerate(loaded) if not isinstance(reason, Tensor)}
        images = torch.stack([x if isinstance(x, Tensor) else torch.zeros(*size) for x in loaded])
        hidden = whole_or_halves(partial(_span, computed, images), _joined, len(images), on, _unsaid)
        parts.append(hidden.numpy())
    _write(shard.path, np.concatenate(parts), bad)


def _span(compute: Callable[[Tensor], Tensor], images: Tensor, first: int, stop: int) -> Tensor:
    return compute(images[first:stop])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _unsaid() -> None:
    """Nothing is said of a batch computed in halves for lack of memory: it is slower, and correct."""


def _write(path: Path, array: NDArray[np.float16], bad: dict[int, str]) -> None:
    with whole_file(path) as own:
        np.save(own, array, allow_pickle=False)
    write_whole(path.with_suffix(".json"), json.dumps(bad).encode())


class CachedFeatures:
    """Frozen features by row: hidden tokens."""

    def __init__(self, found: Sequence[Shard]) -> None:
        self._arrays = [np.load(shard.path, mmap_mode="r", allow_pickle=False) for shard in found]
        self._bad: dict[int, str] = {}
        self._place: dict[int, tuple[int, int]] = {}  # row -> shard, row in it
        for number, shard in enumerate(found):
            told = json.loads(shard.path.with_suffix(".json").read_text(encoding="utf-8"))
            self._bad |= {shard.rows[int(at)]: reason for at, reason in told.items()}
            self._place |= {row: (number, at) for at, row in enumerate(shard.rows)}

    @property
    def bad(self) -> dict[int, str]:
        """Row -> why its image cannot be used."""
        return dict(self._bad)

    def inputs(self, rows: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """(n, prefix + T, D) float32, and which rows can be used; the others are zeros' tokens."""
        places = [self._place[row] for row in rows]
        hidden = np.stack([self._arrays[number][at] for number, at in places])
        return torch.from_numpy(hidden).float(), [row not in self._bad for row in rows]


class DecodedImages:
    """Images by row, decoded each time: where the disk has no room for the cache."""

    def __init__(self, plan: TrainingPlan, backbone: Any) -> None:
        self._pictures = Pictures(plan, backbone)
        self._shape = tuple(backbone.preprocess(np.zeros((32, 32, 3), np.uint8)).shape)

    def inputs(self, rows: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """(n, 3, S, S) float32, and which rows can be used; the others are zeros."""
        loaded = self._pictures.load(rows)
        usable = [isinstance(image, Tensor) for image in loaded]
        images = [x if isinstance(x, Tensor) else torch.zeros(self._shape) for x in loaded]
        return torch.stack(images), usable
