"""Images to rows: prepare, tokens, rows. The index job, fits, queries and the service all take these steps.

A job decodes in threads (`batches`) and may keep Tokens in a cache; a query goes through `encode`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crater_ray.encode.batches import prepared
from crater_ray.encode.device import Aside, exact, guarded, to_host, whole_or_halves
from crater_ray.errors import BadImage, PluginError
from crater_ray.plugins import Aggregator, Backbone, Located
from crater_ray.precision import Precision, in_bfloat16
from crater_ray.types import MAX_PIXELS, Side, Tokens

Array = np.ndarray[Any, Any]
LARGEST = torch.finfo(torch.float16).max
NONE: Mapping[int, str] = {}
TOLERANCE = 1e-3  # of a row's length


@dataclass(frozen=True, slots=True)
class Rows:
    """What the index stores of n images."""

    vectors: Array  # (n, m, G) float16, unit rows
    tokens: Array  # (n, k, D) float32, unit rows
    bad: dict[int, str]  # slot -> why that image has no row; its numbers are zeros


class Encoder:
    """A backbone and two aggregators, built, on one device.

    `threads` is torch's, for the whole process. On a GPU float32 products are float32's, without TF32.
    Raises ValueError for a batch below 1 or an unknown precision, DeviceError for a device that fails, as
    every method does.
    """

    def __init__(
        self,
        backbone: Backbone,
        shortlist: Aggregator,
        rerank: Aggregator,
        *,
        batch: int,
        precision: Precision = "bf16",
        device: str = "cpu",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch must be 1 or more, not {batch}")
        if precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32, not {precision!r}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.batch = batch
        self.precision = precision
        self.max_pixels = max_pixels
        self.device = torch.device(device)
        self.halved = 0  # times that memory did not hold a batch, so that it was computed in halves
        if self.device.type == "cuda":
            exact()
        with guarded(self.device):
            self.backbone: Backbone = on_device(backbone, self.device)
            self.shortlist: Aggregator = on_device(shortlist, self.device)
            self.rerank: Aggregator = on_device(rerank, self.device)
            self._aside = Aside(self.device)

    def prepare(self, image: bytes | Array, max_pixels: int | None = None) -> Tensor | str:
        """(3, S, S) of a file or of pixels, or why the image cannot be used. Thread-safe."""
        return prepared(image, self.backbone.preprocess, max_pixels or self.max_pixels)

    def encode(self, images: Sequence[Tensor], side: Side) -> tuple[Rows, Tokens]:
        """The rows and Tokens of prepared images, in a batch of just their number."""
        sized = copy(self)
        sized.batch = len(images)
        tokens = sized.tokens(torch.stack(list(images)))
        return sized.rows(tokens, side, len(images)), tokens

    def encode_one(self, image: bytes | Array, side: Side) -> Rows:
        """The rows of one image. Raises BadImage for one that cannot be used."""
        rows = self.rows(self.tokens_one(image), side, 1)
        if rows.bad:
            raise BadImage(rows.bad[0])
        return rows

    def tokens_one(self, image: bytes | Array) -> Tokens:
        """The Tokens of one image. Raises BadImage for one that cannot be decoded."""
        ready = self.prepare(image)
        if isinstance(ready, str):
            raise BadImage(ready)
        return self.tokens(ready[None])

    def tokens(self, images: Tensor) -> Tokens:
        """(n, 3, S, S) -> Tokens of `batch` images, padded with zeros where n is less.

        Float32 on the encoder's device; patches rounded to float16 first, so that a cache that holds them as
        float16 gives the same bytes. A patch that is not valid is zeros and has no attention. What memory
        does not hold as one batch is computed in halves. Raises ValueError for more than `batch` images,
        PluginError when the backbone gives other shapes than it promised.
        """
        images = _padded(images, self.batch)
        with guarded(self.device), torch.inference_mode():
            return whole_or_halves(
                lambda first, stop: self._forward(images[first:stop]),
                joined,
                self.batch,
                self.device,
                self._halves,
            )

    def _forward(self, images: Tensor) -> Tokens:
        short = in_bfloat16(self.precision, self.device.type)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=short):
            tokens = self.backbone(images.to(self.device, non_blocking=True))
        _check_shapes(self.backbone, tokens, len(images))
        rows, columns = (_float(attention) for attention in (tokens.attention, tokens.attention_column))
        patches, cls = tokens.patches, _float(tokens.cls)
        if tokens.valid is not None:
            patches = patches.masked_fill(~tokens.valid[:, :, None], 0.0)
            rows, columns = (
                None if attention is None else attention.masked_fill(~tokens.valid[:, None], 0.0)
                for attention in (rows, columns)
            )
        return Tokens(_rounded(patches), tokens.grid, cls, rows, columns, tokens.valid)

    def _halves(self) -> None:
        self.halved += 1

    def mark(self) -> Any:
        """Where this thread is on the device: what `aside` waits for in another."""
        return self._aside.mark()

    @contextmanager
    def aside(self, mark: Any, tokens: Tokens) -> Iterator[None]:
        """For a second thread, which may call `rows` and `to_cache` inside while this one calls `tokens`."""
        with guarded(self.device), self._aside.after(mark, list(tokens.tensors.values())):
            yield

    def rows(self, tokens: Tokens, side: Side, n: int, bad: Mapping[int, str] = NONE) -> Rows:
        """The first n images of `tokens` as rows; an image with a number that is not finite is bad.

        `bad` are images that could not be prepared.

        Raises PluginError when an aggregator breaks its promise, naming it.
        """
        with guarded(self.device), torch.inference_mode():
            finite = _finite(tokens)[:n]
            vectors = self._aggregated(self.shortlist, "shortlist", tokens, side, n)
            kept = self._aggregated(self.rerank, "rerank", tokens, side, n)
            good = finite & vectors.isfinite().flatten(1).all(1) & kept.isfinite().flatten(1).all(1)
            _check_lengths(self.shortlist, "shortlist", vectors[good])
            _check_lengths(self.rerank, "rerank", kept[good])
            clean = [torch.where(good[:, None, None], array, 0.0) for array in (vectors, kept)]
            vectors, kept, good, finite = to_host([*clean, good, finite])
        wrong = {
            slot: "the aggregator gave NaN" if finite[slot] else "the backbone gave NaN"
            for slot in range(n)
            if not good[slot]
        }
        return Rows(vectors.numpy().astype(np.float16), kept.numpy(), {**wrong, **bad})

    def places(self, tokens: Tokens, side: Side) -> Array | None:
        """(N, k, 2) where rerank vectors lie in their images, x and y in 0..1; None where that is unknown."""
        aggregator = self.rerank
        patches = aggregator.locate(tokens, side) if isinstance(aggregator, Located) else None
        if patches is None:
            return None
        at, (rows, columns) = patches.cpu().numpy(), tokens.grid
        return np.stack([(at % columns + 0.5) / columns, (at // columns + 0.5) / rows], -1)

    def to_cache(self, tokens: Tokens, n: int) -> dict[str, Array]:
        """Of the first n images: patches float16, valid bool, the rest float32; what the backbone gives."""
        found = tokens.tensors
        with guarded(self.device):
            copies = to_host([tensor[:n] for tensor in found.values()])
        arrays = {name: copy.numpy() for name, copy in zip(found, copies, strict=True)}
        return arrays | {"patches": arrays["patches"].astype(np.float16)}

    def from_cache(self, arrays: Mapping[str, Array], grid: tuple[int, int]) -> Tokens:
        """Tokens as `tokens` gave them, from what `to_cache` kept of n <= batch images.

        Raises ValueError for more than `batch`.
        """
        with guarded(self.device):
            return tokens_of(arrays, grid).map(lambda kept: _padded(kept, self.batch).to(self.device))

    def _aggregated(self, aggregator: Aggregator, role: str, tokens: Tokens, side: Side, n: int) -> Tensor:
        """(n, k, dim) float32, checked."""
        images = tokens.patches.shape[0]
        output = whole_or_halves(
            lambda first, stop: aggregator(
                tokens if stop - first == images else tokens.map(lambda tensor: tensor[first:stop]), side
            ),
            lambda parts: torch.cat(list(parts)),
            images,
            self.device,
            self._halves,
        )
        k = aggregator.k if side == "gallery" else output.shape[1] if output.ndim == 3 else aggregator.k
        if tuple(output.shape) != (images, k, aggregator.dim):
            raise PluginError(
                f"the {role} aggregator {_name(aggregator)} gave {tuple(output.shape)}, but "
                f"promised ({images}, {aggregator.k}, {aggregator.dim})"
            )
        return output[:n].float()


def on_device(built: Any, device: torch.device | str) -> Any:
    """On the device and in evaluation mode, where it is a module."""
    return built.to(device).eval() if isinstance(built, torch.nn.Module) else built


def tokens_of(arrays: Mapping[str, Array], grid: tuple[int, int]) -> Tokens:
    """Tokens of arrays as a cache keeps them: valid is bool, the rest become float32."""
    found = {
        name: torch.from_numpy(np.array(array, bool if name == "valid" else np.float32))
        for name, array in arrays.items()
    }
    return Tokens(found.pop("patches"), grid, **found)


def joined(parts: Sequence[Tokens]) -> Tokens:
    """One batch of several."""
    every = [part.tensors for part in parts]
    whole: dict[str, Any] = {name: torch.cat([part[name] for part in every]) for name in every[0]}
    return replace(parts[0], **whole)


def _padded(tensor: Tensor, batch: int) -> Tensor:
    count = tensor.shape[0]
    if count > batch:
        raise ValueError(f"{count} images do not fit a batch of {batch}")
    if count == batch:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(batch - count, *tensor.shape[1:])])


def _rounded(patches: Tensor) -> Tensor:
    """Through float16 and back; the large is clamped to what float16 holds, the infinite was wrong before."""
    patches = patches.float().masked_fill(patches.isinf(), torch.nan)
    return patches.clamp(-LARGEST, LARGEST).half().float()


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()


def _finite(tokens: Tokens) -> Tensor:
    """(N,) bool."""
    every = [tensor.isfinite().flatten(1).all(1) for tensor in tokens.tensors.values()]
    return torch.stack(every).all(0)


def _check_lengths(aggregator: Aggregator, role: str, rows: Tensor) -> None:
    """Unit rows were promised; a zero row is allowed, for a token that is all zeros."""
    length = rows.norm(dim=-1)
    wrong = ((length - 1).abs() > TOLERANCE) & (length > 0)
    if bool(wrong.any()):
        raise PluginError(
            f"the {role} aggregator {_name(aggregator)} gave a row of length "
            f"{float(length[wrong][0]):.4g}; its rows must have length 1"
        )


def _check_shapes(backbone: Backbone, tokens: Tokens, images: int) -> None:
    shape = backbone.shape
    promised = {
        "patches": (images, shape.tokens, shape.dim),
        "cls": (images, shape.dim) if shape.cls else None,
        "attention": (images, shape.heads, shape.tokens) if shape.heads else None,
    }
    if tokens.valid is not None:
        promised["valid"] = (images, shape.tokens)
        if tokens.valid.dtype != torch.bool:
            raise PluginError(
                f"the backbone {_name(backbone)} gave valid {tokens.valid.dtype}, not torch.bool"
            )
    for name, size in promised.items():
        given = getattr(tokens, name)
        found = None if given is None else tuple(given.shape)
        if found != size and (size is not None or name == "patches"):
            raise PluginError(f"the backbone {_name(backbone)} gave {name} {found}, but promised {size}")


def _name(built: Any) -> str:
    return f"{type(built).__module__}.{type(built).__qualname__}"
