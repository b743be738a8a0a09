"""Tiny stand-ins for a backbone, a reader and an index: deterministic, in memory, made of pixels alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from crater_ray.errors import BadImage, QueryError
from crater_ray.images import pixels
from crater_ray.plugins import Reader
from crater_ray.request import SearchOptions, SearchRequest
from crater_ray.types import MAX_PIXELS, Hit, Item, Tokens, TokenShape

Array = np.ndarray[Any, Any]


class FakeBackbone:
    """Tokens that depend on the pixels alone: each patch's mean and contrast by channel, projected to `dim`.

    The class token is that of the whole image; two heads attend to contrast and to brightness.
    """

    def __init__(self, dim: int = 16, grid: int = 4, image_size: int = 32) -> None:
        if image_size % grid:
            raise ValueError(f"image_size {image_size} is not a multiple of grid {grid}")
        self.image_size = image_size
        self.shape = TokenShape(dim, (grid, grid), heads=2, cls=True)
        generator = np.random.default_rng(0)
        self._projection = torch.from_numpy(generator.standard_normal((6, dim)).astype(np.float32))

    @property
    def digest(self) -> str:
        return f"fake-{self.shape.dim}-{self.shape.grid[0]}-{self.image_size}"

    def preprocess(self, image: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32 in -1..1."""
        size = (self.image_size, self.image_size)
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), np.float32)
        return torch.from_numpy(resized.transpose(2, 0, 1) / 127.5 - 1.0)

    def __call__(self, images: Tensor) -> Tokens:
        """(N, 3, S, S) -> Tokens."""
        window = self.image_size // self.shape.grid[0]
        mean, contrast = _mean_and_contrast(images.float(), window)
        whole_mean, whole_contrast = _mean_and_contrast(images.float(), self.image_size)
        projection = self._projection.to(images.device)
        patches = torch.cat([mean, contrast], 1).flatten(2).transpose(1, 2) @ projection
        cls = torch.cat([whole_mean, whole_contrast], 1).flatten(1) @ projection
        heads = torch.stack([contrast.mean(1), mean.mean(1)], 1).flatten(2)  # (N, 2, T)
        return Tokens(patches, self.shape.grid, cls, (4 * heads).softmax(-1))


FAULTS: dict[str, Callable[[], Exception]] = {  # as they are met on a GPU
    "cuda": lambda: RuntimeError("CUDA error: an illegal memory access was encountered"),
    "accelerator": lambda: getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: unspecified launch"),
    "memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "host memory": lambda: MemoryError("Unable to allocate 2.00 GiB for an array"),
    "bug": lambda: RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
}


class FailingBackbone(FakeBackbone):
    """A FakeBackbone on a device that fails on purpose.

    `fault` names one of FAULTS. It is raised for more than `above` images at once, or from batch `after` on
    for ever, as by a broken CUDA context. `once` is a file that the first process to fail makes: no other
    process fails then.
    """

    def __init__(
        self, fault: str, after: int | None = None, above: int | None = None, once: Path | None = None
    ) -> None:
        super().__init__()
        self._fault, self._after, self._above, self._once = FAULTS[fault], after, above, once
        self.sizes: list[int] = []  # images of each batch it was asked for
        self._broken = False

    def __call__(self, images: Tensor) -> Tokens:
        self.sizes.append(len(images))
        if self._above is not None and len(images) > self._above:
            raise self._fault()
        if self._after is not None and len(self.sizes) > self._after and not self._broken:
            self._broken = self._once is None or _made(self._once)
        if self._broken:
            raise self._fault()
        return super().__call__(images)


def _made(path: Path) -> bool:
    """Whether the file was not there before."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _mean_and_contrast(images: Tensor, window: int) -> tuple[Tensor, Tensor]:
    mean = avg_pool2d(images, window)
    return mean, (avg_pool2d(images * images, window) - mean * mean).clamp(min=0).sqrt()


class FakeReader:
    """`count` painted PNGs in memory, two a group, cut into `parts`; the same for the same `seed`.

    The two of a group are one pattern under slightly different brightness, so that retrieval has an answer.
    """

    columns = pa.schema([("lat", pa.float64()), ("body", pa.string())])

    def __init__(self, count: int = 12, parts: int = 2, size: int = 32, seed: int = 0) -> None:
        self.count = count
        self.size = size
        self.seed = seed
        self._parts = parts

    def parts(self) -> list[str]:
        return [f"fake-{part:03d}" for part in range(self._parts)]

    def read(self, part: str) -> Iterator[Item]:
        for number in range(self.parts().index(part), self.count, self._parts):
            yield Item(
                f"item-{number:04d}",
                f"group-{number // 2:04d}",
                str(number),
                stamp=str(self.seed),
                columns={"lat": number / 2.0, "body": "nowhere"},
            )

    def load(self, uri: str) -> bytes:
        number = int(uri)
        if not 0 <= number < self.count:
            raise BadImage(f"no image {number}")
        pattern = np.random.default_rng((self.seed, number // 2)).integers(20, 200, (4, 4, 3))
        image = np.kron(pattern, np.ones((self.size // 4, self.size // 4, 1))) + 15 * (number % 2)
        buffer = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()


class FakeIndex:
    """An index of a reader's images, as consumers see one. Scores are cosines of all patches side by side."""

    def __init__(self, reader: Reader | None = None) -> None:
        self.reader: Reader = reader or FakeReader()
        self._items = [item for part in self.reader.parts() for item in self.reader.read(part)]
        self._row = {item.id: row for row, item in enumerate(self._items)}
        backbone = FakeBackbone()
        pixels = torch.stack([backbone.preprocess(self.image(item.id)) for item in self._items])
        self._vectors = normalize(backbone(pixels).patches.flatten(1), dim=-1).numpy()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ids(self) -> Sequence[str]:
        return [item.id for item in self._items]

    def items(self, columns: Iterable[str] | None = None) -> pa.Table:
        named = {
            name: [getattr(item, name) for item in self._items] for name in ("id", "group", "uri", "stamp")
        }
        table = pa.table(named)
        for field in self.reader.columns:
            values = pa.array([item.columns.get(field.name) for item in self._items], field.type)
            table = table.append_column(field, values)
        return table if columns is None else table.select(list(columns))

    def vectors(self) -> Array:
        return self._vectors[:, None].astype(np.float16)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Array:
        rows = np.array([(self._row[a], self._row[b]) for a, b in pairs], np.int64).reshape(-1, 2)
        return np.asarray((self._vectors[rows[:, 0]] * self._vectors[rows[:, 1]]).sum(1), np.float32)

    def search(
        self,
        image: bytes | Array | SearchRequest | None = None,
        *,
        id: str | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Hit]:
        """By id only, and `top`; an item is not its own hit."""
        request = image if isinstance(image, SearchRequest) else SearchRequest(image, id, **options)
        id, top = request.id, request.top
        if id is None or id not in self._row:
            raise QueryError(f"FakeIndex is searched by an id it has, not by {id!r}")
        others = [other for other in self.ids if other != id]
        scores = self.score([(id, other) for other in others])
        order = sorted(range(len(others)), key=lambda at: (-scores[at], others[at]))[:top]
        best = [(self._items[self._row[others[at]]], float(scores[at])) for at in order]
        return [
            Hit(rank, found.id, found.group, score, columns=found.columns)
            for rank, (found, score) in enumerate(best, 1)
        ]

    def image(self, id: str) -> Array:
        return pixels(self.reader.load(self._items[self._row[id]].uri), MAX_PIXELS)

    def neighbours(self, top: int = 5) -> ds.Dataset:
        """The neighbour table a consumer gets: query_id, rank, id, score."""
        rows = [(id, hit.rank, hit.id, hit.score) for id in self.ids for hit in self.search(id=id, top=top)]
        query_id, rank, found, score = zip(*rows, strict=True)
        return ds.dataset(
            pa.table(
                {
                    "query_id": list(query_id),
                    "rank": pa.array(rank, pa.int32()),
                    "id": list(found),
                    "score": pa.array(score, pa.float32()),
                }
            )
        )


def fake_tokens(shape: TokenShape, images: int = 3, seed: int = 0, *, sparse: bool = False) -> Tokens:
    """Random Tokens of `shape`, with whatever it says a backbone gives.

    sparse: about half of the tokens are not valid, of the last image none is; such are zeros.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    cls = draw(images, shape.dim) if shape.cls else None
    attention = [
        draw(images, shape.heads, shape.tokens).softmax(-1) if shape.heads else None for _ in range(2)
    ]
    patches = draw(images, shape.tokens, shape.dim)
    if not sparse:
        return Tokens(patches, shape.grid, cls, *attention)
    valid = draw(images, shape.tokens) > 0
    valid[:, 0] = True
    valid[-1] = False
    rows = [None if weights is None else weights * valid[:, None] for weights in attention]
    return Tokens(patches * valid[:, :, None], shape.grid, cls, rows[0], rows[1], valid)
