"""Views written as image files by a few threads; one that is there already is kept."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from crater_ray.errors import BadImage, ReaderError
from crater_ray.files import whole_file
from crater_ray_mosaic.mosaic import Mosaic
from crater_ray_mosaic.pose import to_uri
from crater_ray_mosaic.views import View


def paths(side: str, views: Sequence[View], suffix: str) -> dict[str, str]:
    """View id -> file below the bench, unsafe signs replaced. Raises ReaderError where two come out alike."""
    found = {view.id: f"images/{side}/{re.sub(r'[^A-Za-z0-9._+-]', '_', view.id)}.{suffix}" for view in views}
    if len(set(found.values())) < len(views):
        twice = Counter(found.values()).most_common(1)[0][0]
        raise ReaderError(f"two views would be written to {twice}; use crater ids of letters and digits")
    return found


def write_views(
    mosaic: Mosaic,
    views: Sequence[View],
    files: Mapping[str, str],
    out: Path,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, str]:
    """Writes every view that is not there yet; returns the refused ones, id -> reason. Raises StorageFull."""
    refused: dict[str, str] = {}
    step = 64 * threads  # a bounded queue, so that an interrupt or a full disk is felt at once
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(views), step):
            some = views[first : first + step]
            reasons = pool.map(lambda one: _write(mosaic, one, out / files[one.id]), some)
            for view, reason in zip(some, reasons, strict=True):
                if reason:
                    refused[view.id] = reason
            progress(min(first + step, len(views)), len(views))
    return refused


def _write(mosaic: Mosaic, view: View, path: Path) -> str:
    """Empty when the image is there, else why it is not."""
    if path.exists():
        return ""
    try:
        pixels = mosaic.load(to_uri(view.pose))
    except BadImage as error:
        return error.message
    with whole_file(path) as own, own.open("wb") as file:
        if path.suffix == ".jpg":
            Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
        else:
            Image.fromarray(pixels).save(file, "PNG")
    return ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
