"""What each kind of plugin promises, tried out. The first promise that does not hold is raised."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from crater_ray.plugins import Aggregator, Backbone, Consumer, Fitted, Located, Reader
from crater_ray.testing.fakes import FakeIndex, fake_tokens
from crater_ray.types import Item, Side, Tokens, TokenShape

SIDES: tuple[Side, ...] = ("gallery", "query")
SHAPE = TokenShape(16, (4, 4), heads=2, cls=True)


class ConformanceError(AssertionError):
    """A plugin does not keep a promise of its kind."""


def check_reader(reader: Reader, images: int = 4) -> None:
    """Parts, items and columns of a reader, and that its first `images` load alike from two threads."""
    _require(isinstance(reader, Reader), f"{_of(reader)} lacks one of columns, parts, read, load")
    _require(isinstance(reader.columns, pa.Schema), f"columns is {_of(reader.columns)}, not a pyarrow.Schema")
    parts = reader.parts()
    _require(parts == reader.parts(), "parts() differs from call to call")
    _require(len(set(parts)) == len(parts), "parts() names a part twice")
    for part in parts:
        _require(
            re.fullmatch(r"[\w.+-]+", part) is not None and part not in (".", ".."),
            f"part {part!r} is no safe file name: use letters, digits and . _ + -",
        )
    seen: set[str] = set()
    for part in parts:
        items = list(reader.read(part))
        _require(items == list(reader.read(part)), f"read({part!r}) differs from call to call")
        for item in items:
            _check_item(item, reader.columns)
            _require(item.id not in seen, f"the id {item.id!r} is listed twice")
            seen.add(item.id)
    first = [item.uri for item in islice((item for part in parts for item in reader.read(part)), images)]
    with ThreadPoolExecutor(2) as pool:
        for uri, one, other in zip(
            first, pool.map(reader.load, first), pool.map(reader.load, first), strict=True
        ):
            _check_image(uri, one)
            _require(
                np.array_equal(np.asarray(one), np.asarray(other)), f"load({uri!r}) differs from call to call"
            )


def _check_item(item: Item, columns: pa.Schema) -> None:
    _require(isinstance(item, Item), f"read gives {_of(item)}, not crater_ray.types.Item")
    for field in ("id", "group", "uri", "stamp"):
        value = getattr(item, field)
        _require(isinstance(value, str), f"item {item.id!r}: {field} is {_of(value)}, not str")
    _require(
        bool(item.id) and bool(item.group), f"item {item.id!r} of group {item.group!r}: neither may be empty"
    )
    unknown = set(item.columns) - set(columns.names)
    _require(not unknown, f"item {item.id!r} has columns {sorted(unknown)} that the reader's schema lacks")
    for name, value in item.columns.items():
        try:
            pa.array([value], columns.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ConformanceError(
                f"item {item.id!r}: column {name!r} does not fit its type: {error}"
            ) from None


def _check_image(uri: str, data: object) -> None:
    if isinstance(data, bytes):
        _require(len(data) > 0, f"load({uri!r}) gives no bytes")
        return
    _require(isinstance(data, np.ndarray), f"load({uri!r}) gives {_of(data)}, not bytes or an array")
    assert isinstance(data, np.ndarray)  # just required
    fits = data.dtype == np.uint8 and (data.ndim == 2 or (data.ndim == 3 and data.shape[2] == 3))
    _require(fits, f"load({uri!r}) gives {data.shape} {data.dtype}, not (H, W) or (H, W, 3) uint8")


def check_backbone(backbone: Backbone) -> None:
    """Shape, digest, preprocessing and Tokens of a backbone, on three painted images."""
    _require(
        isinstance(backbone, Backbone), f"{_of(backbone)} lacks one of shape, digest, preprocess, __call__"
    )
    shape = backbone.shape
    _require(isinstance(shape, TokenShape), f"shape is {_of(shape)}, not crater_ray.types.TokenShape")
    _require(isinstance(backbone.digest, str) and bool(backbone.digest), "digest is not a name")
    _require(backbone.digest == backbone.digest, "digest differs from call to call")
    generator = np.random.default_rng(0)
    painted = [
        generator.integers(0, 256, (height, width, 3), np.uint8)
        for height, width in ((64, 64), (40, 90), (97, 31))
    ]
    with ThreadPoolExecutor(2) as pool:
        ready, again = (
            list(pool.map(backbone.preprocess, painted)),
            list(pool.map(backbone.preprocess, painted)),
        )
    for image, other in zip(ready, again, strict=True):
        square = image.ndim == 3 and image.shape[0] == 3 and image.shape[1] == image.shape[2]
        _require(
            square and image.dtype == torch.float32,
            f"preprocess gives {tuple(image.shape)} {image.dtype}, not (3, S, S) float32",
        )
        _require(image.shape == ready[0].shape, "preprocess gives another size for another image")
        _require(torch.equal(image, other), "preprocess differs from call to call")
    images = torch.stack(ready)
    with torch.inference_mode():
        tokens, repeated = backbone(images), backbone(images)
        alone = backbone(images[:1])
    _check_tokens(tokens, shape, len(painted))
    _require(
        all(
            torch.equal(one, other)
            for one, other in (
                (tokens.present, repeated.present),
                [_valid_only(each.patches, each.valid, "patches") for each in (tokens, repeated)],
            )
        ),
        "the same images give other tokens on a second call",
    )
    both = tokens.patches[:1].float(), alone.patches.float()
    present = tokens.present[:1]
    _require(
        torch.equal(present, alone.present),
        "which of its tokens are valid depend on its neighbours in the batch",
    )
    close = torch.where(present, torch.cosine_similarity(*both, dim=-1), 1.0).min()
    _require(
        float(close) > 0.999,
        f"an image's tokens depend on its neighbours in the batch (cosine {float(close):.4f})",
    )


def _check_tokens(tokens: Tokens, shape: TokenShape, images: int) -> None:
    _require(isinstance(tokens, Tokens), f"a call gives {_of(tokens)}, not crater_ray.types.Tokens")
    _require(tokens.shape == shape, f"shape promises {shape}, but the Tokens are {tokens.shape}")
    heads = (images, shape.heads, shape.tokens)
    sizes = {
        "patches": (images, shape.tokens, shape.dim),
        "cls": (images, shape.dim),
        "attention": heads,
        "attention_column": heads,
    }
    for name, size in sizes.items():
        tensor = getattr(tokens, name)
        if tensor is not None:
            _require(tuple(tensor.shape) == size, f"{name} is {tuple(tensor.shape)}, not {size}")
            counted = tensor if name == "cls" else _valid_only(tensor, tokens.valid, name)
            _require(bool(counted.isfinite().all()), f"{name} has a number that is not finite")
    if tokens.valid is not None:
        of_bools = tuple(tokens.valid.shape) == heads[::2] and tokens.valid.dtype == torch.bool
        given = f"{tuple(tokens.valid.shape)} {tokens.valid.dtype}"
        _require(of_bools, f"valid is {given}, not {heads[::2]} torch.bool")
    if tokens.attention is not None:
        within = bool((tokens.attention >= 0).all()) and bool(
            (tokens.attention.float().sum(-1) <= 1.01).all()
        )
        _require(within, "attention is not a share of one per head; give it after the softmax")


def _valid_only(tensor: torch.Tensor, valid: torch.Tensor | None, name: str) -> torch.Tensor:
    """Without the numbers of tokens that are not valid, which may be any."""
    if valid is None or valid.shape != (len(tensor), tensor.shape[1 if name == "patches" else 2]):
        return tensor
    return tensor.masked_fill(~valid.bool()[:, :, None] if name == "patches" else ~valid.bool()[:, None], 0.0)


def check_aggregator(factory: Callable[..., Aggregator], shape: TokenShape = SHAPE, **options: Any) -> None:
    """Rows of `factory(shape, **options)` on random Tokens, and its fit and locate where it has them."""
    aggregator = factory(shape, **options)
    tokens = fake_tokens(shape)
    state = None
    if isinstance(aggregator, Fitted):
        sample = [fake_tokens(shape, 8, seed) for seed in range(1, 41)]
        state = aggregator.fit(iter(sample), seed=0)
        _require(
            all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in state.items()),
            "fit gives something else than a dict of arrays by name",
        )
        again = factory(shape, **options)
        assert isinstance(again, Fitted)  # made as the first was
        same = again.fit(iter(sample), seed=0)
        _require(
            state.keys() == same.keys() and all(np.array_equal(state[name], same[name]) for name in state),
            "fit gives other arrays for the same sample and seed",
        )
        aggregator = factory(shape, **options)
        assert isinstance(aggregator, Fitted)
        aggregator.load(state)  # as a worker does that never saw the sample
    _require(isinstance(aggregator, Aggregator), f"{_of(aggregator)} lacks one of k, dim, __call__")
    _require(isinstance(aggregator.k, int) and aggregator.k > 0, f"k is {aggregator.k!r}, not a positive int")
    _require(
        isinstance(aggregator.dim, int) and aggregator.dim > 0,
        f"dim is {aggregator.dim!r}, not a positive int",
    )
    sparse = fake_tokens(shape, 4, sparse=True)
    for side in SIDES:
        _check_rows(aggregator, tokens, side)
        _check_sparse(aggregator, sparse, side)


def _check_sparse(aggregator: Aggregator, tokens: Tokens, side: Side) -> None:
    """Of images whose tokens are not all valid, the last of which has none that is."""
    with torch.inference_mode():
        rows = aggregator(tokens, side)
    length = rows.norm(dim=-1)
    _require(
        bool((((length - 1).abs() < 1e-3) | (length == 0)).all()),
        f"on the {side} side, where tokens are not valid, it gives rows of neither length 1 nor zeros",
    )


def _check_rows(aggregator: Aggregator, tokens: Tokens, side: Side) -> None:
    images = tokens.patches.shape[0]
    before = tokens.patches.clone()
    with torch.inference_mode():
        rows, repeated = aggregator(tokens, side), aggregator(tokens, side)
        alone = aggregator(tokens.map(lambda tensor: tensor[:1]), side)
    _require(torch.equal(before, tokens.patches), f"on the {side} side it changes the Tokens it is given")
    k = aggregator.k if side == "gallery" else rows.shape[1] if rows.ndim == 3 else -1
    _require(
        tuple(rows.shape) == (images, k, aggregator.dim),
        f"on the {side} side it gives {tuple(rows.shape)}, not ({images}, {aggregator.k}, {aggregator.dim})",
    )
    _require(rows.dtype == torch.float32, f"on the {side} side its rows are {rows.dtype}, not float32")
    _require(
        bool(((rows.norm(dim=-1) - 1).abs() < 1e-3).all()), f"on the {side} side its rows have not length 1"
    )
    _require(
        torch.equal(rows, repeated), f"on the {side} side the same Tokens give other rows on a second call"
    )
    _require(
        torch.allclose(rows[:1], alone, atol=1e-4),
        f"on the {side} side an image's rows depend on its neighbours",
    )
    if isinstance(aggregator, Located) and (located := aggregator.locate(tokens, side)) is not None:
        _require(
            located.shape == rows.shape[:2] and located.dtype == torch.int64,
            f"locate gives {tuple(located.shape)} {located.dtype}, not {tuple(rows.shape[:2])} int64",
        )
        _require(
            bool(((located >= 0) & (located < tokens.patches.shape[1])).all()),
            "locate names a patch that is not",
        )


def check_consumer(consumer: Consumer, out: Path, index: FakeIndex | None = None) -> None:
    """That it runs twice over a small index and its neighbours, and returns a path it wrote below `out`."""
    _require(callable(consumer), f"{_of(consumer)} cannot be called")
    index = index or FakeIndex()
    for turn in ("first", "second"):
        out.mkdir(parents=True, exist_ok=True)
        wrote = consumer(index, index.neighbours(), out)
        _require(isinstance(wrote, Path), f"the {turn} run gives {_of(wrote)}, not the path it wrote")
        _require(wrote.exists(), f"the {turn} run names {wrote}, which is not there")
        _require(
            wrote.resolve().is_relative_to(out.resolve()), f"the {turn} run wrote {wrote}, outside {out}"
        )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConformanceError(otherwise)


def _of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
