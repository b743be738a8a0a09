"""Query images become vectors and tokens, several at once; items become pictures. No Ray, no HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crater_ray.encoders import build_encoder
from crater_ray.errors import BadImage, DeviceError, QueryError
from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.index.versions import read
from crater_ray.plugins import Reader, registry
from crater_ray.serve.models import Grid, Places
from crater_ray.types import Tokens

Array = np.ndarray[Any, Any]
READERS = 8  # versions whose readers stay open


@dataclass(frozen=True, slots=True)
class Encoded:
    """One query image."""

    vectors: Array  # (m, G) float16
    tokens: Array  # (Q, D) float32
    where: Places | None  # when asked for
    seconds: dict[str, float]


class QueryEncoder:
    """The index config's encoder, for images that arrive one by one. One thread at a time may call it.

    Raises IndexMismatch, DamagedIndex, or PluginError for other weights than the index was made with.
    """

    def __init__(
        self, root: Path, *, max_pixels: int | None = None, threads: int | None = None, device: str = "cpu"
    ) -> None:
        self.root = Path(root)
        self.config = read_config(store_at(self.root))
        self.max_pixels = min(max_pixels or self.config.max_pixels, self.config.max_pixels)
        self._one = build_encoder(store_at(self.root), self.config, threads=threads, batch=1, device=device)
        self._readers: dict[int, list[Reader]] = {}
        self._broken: DeviceError | None = None

    def warm(self) -> None:
        """Encodes a grey picture, so that the first query does not wait for what is set up once."""
        self.encode([np.full((64, 64, 3), 128, np.uint8)], [True])

    def encode(self, images: Sequence[bytes | Array], places: Sequence[bool]) -> list[Encoded | QueryError]:
        """What each image is searched with, or why it cannot be used: a bad one leaves the others alone.

        One image gives the same numbers as `Index.encode`; several share a batch of just their number.
        """
        from time import perf_counter

        start = perf_counter()
        ready, answers = {}, dict[int, Encoded | QueryError]()
        for slot, image in enumerate(images):
            found = self._one.prepare(image, self.max_pixels)
            if isinstance(found, str):
                answers[slot] = QueryError(f"the query image cannot be used: {found}")
            else:
                ready[slot] = found
        decoded = perf_counter()
        if ready:
            with self._noted():
                rows, tokens = self._one.encode(list(ready.values()), "query")
                shown = self._one.places(tokens, "query") if any(places[slot] for slot in ready) else None
            seconds = {"decode": decoded - start, "encode": perf_counter() - decoded}
            for at, slot in enumerate(ready):
                if at in rows.bad:
                    answers[slot] = QueryError(f"the query image cannot be used: {rows.bad[at]}")
                    continue
                where = _where(tokens, shown, at) if places[slot] else None
                answers[slot] = Encoded(rows.vectors[at], rows.tokens[at], where, seconds)
        return [answers[slot] for slot in range(len(images))]

    def places(self, version: int, reader: int, uri: str) -> Places:
        """Where the gallery tokens of an item lie. Raises QueryError when its image cannot be read."""
        image = self._load(version, reader, uri)
        with self._noted():
            tokens = self._one.tokens_one(image)
            return _where(tokens, self._one.places(tokens, "gallery"), 0)

    def check_health(self) -> None:
        """Raises DeviceError once the device has failed under a query, or where a GPU no longer computes.

        A broken CUDA context fails whatever follows: the process must be replaced. Any thread may call it.
        """
        if self._broken is not None:
            raise self._broken
        if self._one.device.type != "cpu":
            from crater_ray.encode.device import check

            check(self._one.device)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        from crater_ray.encode.device import guarded

        try:
            with guarded(self._one.device):
                yield
        except DeviceError as error:
            self._broken = error
            raise

    def picture(self, version: int, reader: int, uri: str, size: int | None) -> bytes:
        """A PNG of an item, its longest side at most `size`. Raises QueryError when it cannot be read."""
        from PIL import Image

        image = Image.fromarray(self._load(version, reader, uri))
        if size is not None:
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()

    def _load(self, version: int, reader: int, uri: str) -> Array:
        from crater_ray.images import pixels

        try:
            return pixels(self._opened(version)[reader].load(uri), self.config.max_pixels)
        except (BadImage, OSError) as error:
            reason = error.message if isinstance(error, BadImage) else error.strerror or "it cannot be read"
            raise QueryError(f"the item's image cannot be shown: {reason}") from error

    def _opened(self, version: int) -> list[Reader]:
        if version not in self._readers:
            refs = read(store_at(self.root), version).readers
            while len(self._readers) >= READERS:
                self._readers.pop(next(iter(self._readers)))
            self._readers[version] = [registry().build(registry().current(ref)) for ref in refs]
        return self._readers[version]


def _where(tokens: Tokens, shown: Array | None, at: int) -> Places:
    """Where the vectors of image `at` lie."""
    rows, columns = tokens.grid
    return Places(grid=Grid(rows=rows, columns=columns), places=None if shown is None else shown[at].tolist())
