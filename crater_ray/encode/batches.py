"""Items to padded batches: loaded and decoded in threads, in order, a few batches ahead of the model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from crater_ray.errors import BadImage, CraterRayError
from crater_ray.images import pixels
from crater_ray.types import Item

Array = np.ndarray[Any, Any]
Found = TypeVar("Found")
Loaded = bytes | Array | BadImage
Load = Callable[[str], bytes | Array]
LoadMany = Callable[[Sequence[str]], Sequence[Loaded]]
Preprocess = Callable[[Array], Tensor]

AHEAD = 3  # batches decoded or being decoded while the model works on one
PAUSES = (0.1, 0.5, 2.0)  # seconds before loading once more after an OSError


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to `batch` items and their pixels.

    A bad image keeps its slot, so that its neighbours' bytes do not depend on it.
    """

    items: list[Item]
    images: Tensor  # (batch, 3, S, S) float32, zeros where bad or padding
    bad: dict[int, str] = field(default_factory=dict)  # slot -> why that image cannot be used


def batches(
    items: Iterable[Item],
    load: Load,
    preprocess: Preprocess,
    *,
    batch: int,
    decoders: int,
    max_pixels: int,
    pin: bool = False,
    pauses: Sequence[float] = PAUSES,
    load_many: LoadMany | None = None,
) -> Iterator[Batch]:
    """The items in their order, `batch` at a time, the last batch padded.

    `load_many`, where a reader has it, loads the images of a batch in one call, in place of `load`.
    `pin` puts the images in page-locked memory, for a GPU. An OSError of `load` is tried again after each of
    `pauses` (seconds) and then raised: the storage is at fault, not the image. BadImage, or any failure from
    there to the tensor, skips that image alone.
    Raises ValueError for batch or decoders below 1, CraterRayError when `preprocess` gives changing shapes,
    or `load_many` not one image a uri.
    """
    if batch < 1 or decoders < 1:
        raise ValueError(f"batch and decoders must be 1 or more, not {batch} and {decoders}")
    shape = tuple(preprocess(np.zeros((32, 32, 3), np.uint8)).shape)

    def ready(loaded: Callable[[], Loaded]) -> Tensor | str:
        data = loaded()
        return data.message if isinstance(data, BadImage) else prepared(data, preprocess, max_pixels)

    def loads(some: list[Item]) -> list[Callable[[], Loaded]]:
        """Of each item what waits for its image; those before it are at work by then."""
        if load_many is None:
            return [partial(_retried, partial(_one, load, item.uri), pauses) for item in some]
        found: list[Callable[[], Loaded]] = []
        for first in range(0, len(some), batch):
            uris = [item.uri for item in some[first : first + batch]]
            call = pool.submit(_retried, partial(_many, load_many, uris), pauses)
            found += [partial(_nth, call, number) for number in range(len(uris))]
        return found

    queue = iter(items)
    pool = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
    ahead: deque[tuple[Item, Future[Tensor | str]]] = deque()
    try:
        while True:
            missing = batch * AHEAD - len(ahead)
            some = list(islice(queue, missing))
            ahead.extend(zip(some, (pool.submit(ready, one) for one in loads(some)), strict=True))
            if not ahead:
                return
            yield _stacked([ahead.popleft() for _ in range(min(batch, len(ahead)))], batch, shape, pin)
    finally:
        pool.shutdown(cancel_futures=True)


def prepared(data: bytes | Array, preprocess: Preprocess, max_pixels: int) -> Tensor | str:
    """The model's input of one image, or why there is none."""
    try:
        return preprocess(pixels(data, max_pixels))
    except BadImage as error:
        return error.message
    except MemoryError:  # the machine's trouble, not the image's
        raise
    except Exception as error:  # decoders fail in many ways; the text goes with the skipped image
        return f"{type(error).__name__} while decoding: {error}"


def _stacked(
    ready: list[tuple[Item, Future[Tensor | str]]], batch: int, shape: tuple[int, ...], pin: bool
) -> Batch:
    images = torch.zeros((batch, *shape), pin_memory=pin)
    bad: dict[int, str] = {}
    for slot, (item, future) in enumerate(ready):
        image = future.result()
        if isinstance(image, str):
            bad[slot] = image
        elif tuple(image.shape) != shape:
            raise CraterRayError(
                f"the backbone's preprocess gives {tuple(image.shape)} for {item.id!r}, but "
                f"{shape} for others; it must give one shape for all"
            )
        else:
            images[slot] = image
    return Batch([item for item, _ in ready], images, bad)


def _one(load: Load, uri: str) -> Loaded:
    try:
        return load(uri)
    except BadImage as error:
        return error


def _many(load: LoadMany, uris: Sequence[str]) -> Sequence[Loaded]:
    found = load(uris)
    if len(found) != len(uris):
        raise CraterRayError(f"the reader's load_many gives {len(found)} images for {len(uris)} uris")
    return found


def _nth(call: Future[Sequence[Loaded]], number: int) -> Loaded:
    return call.result()[number]


def _retried(call: Callable[[], Found], pauses: Sequence[float]) -> Found:
    """What the reader gives, asked again after an OSError."""
    for pause in pauses:
        try:
            return call()
        except OSError:
            time.sleep(pause)
    return call()
