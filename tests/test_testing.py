"""The stand-ins keep their own promises, and each check finds the plugin that does not."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from crater_ray.errors import BadImage, QueryError
from crater_ray.plugins import Backbone, Index, Reader
from crater_ray.testing import (
    ConformanceError,
    FakeBackbone,
    FakeIndex,
    FakeReader,
    check_aggregator,
    check_backbone,
    check_consumer,
    check_reader,
    fake_tokens,
)
from crater_ray.types import Item, Tokens

torch.set_num_threads(1)


@pytest.mark.parametrize("options", [{}, {"dim": 8, "grid": 7, "image_size": 70}])
def test_the_fake_backbone_conforms(options):
    backbone = FakeBackbone(**options)
    assert isinstance(backbone, Backbone)
    check_backbone(backbone)


def test_the_fake_backbone_sees_where_and_what():
    backbone = FakeBackbone()
    image = np.zeros((32, 32, 3), np.uint8)
    image[:8, 24:] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    tokens = backbone(backbone.preprocess(image)[None])
    assert tokens.attention[0].argmax(-1).tolist() == [3, 3]
    assert torch.equal(tokens.patches[0, 0], tokens.patches[0, 15])
    assert not torch.equal(tokens.patches[0, 0], tokens.patches[0, 3])
    with pytest.raises(ValueError, match="not a multiple"):
        FakeBackbone(grid=5)


@pytest.mark.parametrize("options", [{}, {"count": 5, "parts": 3, "size": 40, "seed": 4}])
def test_the_fake_reader_conforms(options):
    reader = FakeReader(**options)
    assert isinstance(reader, Reader)
    check_reader(reader)
    assert sum(1 for part in reader.parts() for _ in reader.read(part)) == reader.count
    with pytest.raises(BadImage):
        reader.load("99")


def test_the_fake_index_answers_with_the_other_image_of_a_group():
    index = FakeIndex()
    assert isinstance(index, Index)
    assert len(index) == len(index.ids) == index.vectors().shape[0] == index.items().num_rows == 12
    assert index.items(["id", "lat"]).column_names == ["id", "lat"]
    assert index.image("item-0000").shape == (32, 32, 3)
    for id, group in zip(index.ids, index.items()["group"].to_pylist(), strict=True):
        best = index.search(id=id, top=3)[0]
        assert (best.rank, best.group) == (1, group)
        assert best.score == pytest.approx(float(index.score([(id, best.id)])[0]))
    assert index.score([]).shape == (0,)
    assert index.neighbours(top=3).count_rows() == 36
    with pytest.raises(QueryError):
        index.search(id="nobody")


def item(**changes):
    return Item(**({"id": "a", "group": "a", "uri": "0"} | changes))


class Listed(FakeReader):
    """A reader of one part whose parts, items, loads and columns a test chooses."""

    def __init__(self, items=(), parts=("p",), load=None, columns=None):
        super().__init__()
        self._listed, self._named, self._load = items, parts, load
        self.columns = columns if columns is not None else FakeReader.columns

    def parts(self):
        return list(self._named)

    def read(self, part):
        return iter(self._listed)

    def load(self, uri):
        return self._load(uri) if self._load else super().load(uri)


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (object(), "lacks one of columns, parts, read, load"),
        (Listed(columns=["lat"]), "not a pyarrow.Schema"),
        (Listed(parts=("a", "a")), "names a part twice"),
        (Listed(parts=("a/b",)), "no safe file name"),
        (Listed(parts=("..",)), "no safe file name"),
        (Listed([item(), item()]), "'a' is listed twice"),
        (Listed([item(uri=3)]), "uri is builtins.int, not str"),
        (Listed([item(group="")]), "neither may be empty"),
        (Listed([item(columns={"depth": 1.0})]), r"columns \['depth'\] that the reader's schema lacks"),
        (Listed([item(columns={"lat": "north"})]), "column 'lat' does not fit its type"),
        (Listed([{"id": "a"}]), r"not crater_ray\.types\.Item"),
        (Listed([item()], load=lambda uri: b""), "gives no bytes"),
        (Listed([item()], load=lambda uri: "text"), "not bytes or an array"),
        (Listed([item()], load=lambda uri: np.zeros((8, 8, 3))), "float64, not"),
        (
            Listed([item()], load=lambda uri: RANDOM.integers(0, 256, (8, 8), np.uint8)),
            r"load.* differs from call to call",
        ),
    ],
)
def test_a_reader_that_breaks_a_promise_is_found(reader, message):
    with pytest.raises(ConformanceError, match=message):
        check_reader(reader)


def test_a_reader_whose_listing_moves_is_found():
    class Moving(FakeReader):
        def read(self, part):
            self.seed += 1
            return super().read(part)

    with pytest.raises(ConformanceError, match=r"read.* differs from call to call"):
        check_reader(Moving())


class BrokenBackbone(FakeBackbone):
    digest = "broken"

    def __init__(self, change=None, **attributes):
        super().__init__()
        self._change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def __call__(self, images):
        tokens = super().__call__(images)
        return self._change(tokens) if self._change else tokens


def changed(patches=None, cls=None, attention=None):
    return lambda tokens: Tokens(
        patches(tokens.patches) if patches else tokens.patches,
        tokens.grid,
        cls(tokens.cls) if cls else tokens.cls,
        attention(tokens.attention) if attention else tokens.attention,
    )


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (object(), "lacks one of shape, digest"),
        (BrokenBackbone(shape=(16, 4)), "not crater_ray.types.TokenShape"),
        (
            BrokenBackbone(preprocess=lambda image: torch.zeros(3, 32, 31)),
            r"\(3, 32, 31\) torch.float32, not \(3, S, S\)",
        ),
        (
            BrokenBackbone(preprocess=lambda image: torch.zeros(3, len(image), len(image))),
            "another size for another image",
        ),
        (
            BrokenBackbone(preprocess=lambda image: torch.rand(3, 32, 32)),
            "preprocess differs from call to call",
        ),
        (BrokenBackbone(lambda tokens: tokens.patches), "not crater_ray.types.Tokens"),
        (BrokenBackbone(changed(patches=lambda patches: patches[:, :, :8])), "shape promises"),
        (
            BrokenBackbone(changed(patches=lambda patches: patches[:, 1:])),
            r"patches is \(3, 15, 16\), not \(3, 16, 16\)",
        ),
        (
            BrokenBackbone(changed(patches=lambda patches: patches / 0)),
            "patches has a number that is not finite",
        ),
        (BrokenBackbone(changed(attention=lambda attention: attention * 9)), "not a share of one"),
        (
            BrokenBackbone(changed(patches=lambda patches: patches + torch.rand(1))),
            "other tokens on a second call",
        ),
        (
            BrokenBackbone(changed(patches=lambda patches: patches - patches.mean(0))),
            "depend on its neighbours",
        ),
    ],
)
def test_a_backbone_that_breaks_a_promise_is_found(backbone, message):
    with pytest.raises(ConformanceError, match=message):
        check_backbone(backbone)


class Spread:
    """Honest: the first k patches."""

    def __init__(self, shape, k=2):
        self.k, self.dim = k, shape.dim

    def __call__(self, tokens, side):
        return torch.nn.functional.normalize(tokens.patches[:, : self.k].float(), dim=-1)


def twisted(twist, **attributes):
    class Twisted(Spread):
        def __call__(self, tokens, side):
            return twist(super().__call__(tokens, side), tokens)

    for name, value in attributes.items():
        setattr(Twisted, name, value)
    return Twisted


def same(rows, tokens):
    return rows


def spoil(rows, tokens):
    tokens.patches.mul_(2)
    return rows


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda shape: object(), "lacks one of k, dim"),
        (lambda shape: Spread(shape, k=0), "k is 0"),
        (twisted(lambda rows, tokens: rows[:, :1]), r"gives \(3, 1, 16\), not \(3, 2, 16\)"),
        (twisted(lambda rows, tokens: rows.double()), "are torch.float64"),
        (twisted(lambda rows, tokens: rows * 2), "have not length 1"),
        (twisted(spoil), "changes the Tokens"),
        (
            twisted(lambda rows, tokens: torch.nn.functional.normalize(torch.rand_like(rows), dim=-1)),
            "second call",
        ),
        (
            twisted(lambda rows, tokens: torch.nn.functional.normalize(rows - rows.mean(0) / 2, dim=-1)),
            "its neighbours",
        ),
        (twisted(same, locate=lambda self, tokens, side: torch.zeros(3, 2)), "locate gives .* int64"),
        (twisted(same, locate=lambda self, tokens, side: torch.full((3, 2), 16)), "a patch that is not"),
        (twisted(same, fit=lambda self, sample, seed: {"mean": [1.0]}, load=same), "dict of arrays"),
        (
            twisted(same, fit=lambda self, sample, seed: {"mean": np.random.rand(2)}, load=same),
            "same sample and seed",
        ),
    ],
)
def test_an_aggregator_that_breaks_a_promise_is_found(factory, message):
    with pytest.raises(ConformanceError, match=message):
        check_aggregator(factory)


class Whitened(Spread):
    """Learns: subtracts the sample's mean."""

    mean = None

    def fit(self, sample, seed):
        return {"mean": torch.cat([tokens.patches.flatten(0, 1) for tokens in sample]).mean(0).numpy()}

    def load(self, state):
        self.mean = torch.from_numpy(state["mean"])

    def __call__(self, tokens, side):
        return torch.nn.functional.normalize(tokens.patches[:, : self.k] - self.mean, dim=-1)


class Sparse(FakeBackbone):
    """Dark patches are not valid, and their numbers mean nothing."""

    digest = "sparse"
    valid = None

    def __call__(self, images):
        tokens = super().__call__(images)
        dark = tokens.attention[:, 1] < 1 / 16
        patches = tokens.patches.masked_fill(dark[:, :, None], torch.nan)
        return dataclasses.replace(
            tokens, patches=patches, valid=~dark if self.valid is None else self.valid(~dark)
        )


def test_a_backbone_may_say_which_tokens_are_valid():
    backbone = Sparse()
    check_backbone(backbone)
    for wrong, message in (
        (lambda valid: valid[:, :4], r"valid is \(3, 4\)|not finite"),
        (lambda valid: valid.float(), "torch.float32, not"),
        (lambda valid: torch.ones_like(valid), "not finite"),
        (lambda valid: valid & (torch.arange(16) < 16 // len(valid)), "depend on its neighbours"),
    ):
        backbone.valid = wrong
        with pytest.raises(ConformanceError, match=message):
            check_backbone(backbone)


def test_an_aggregator_gives_a_row_or_zeros_where_tokens_are_not_valid():
    class Halved(Spread):
        def __call__(self, tokens, side):
            rows = super().__call__(tokens, side)
            return rows if tokens.valid is None else rows / 2

    with pytest.raises(ConformanceError, match="neither length 1 nor zeros"):
        check_aggregator(Halved)
    tokens = fake_tokens(FakeBackbone().shape, 3, sparse=True)
    assert tokens.valid.sum(1).tolist()[-1] == 0
    assert torch.equal(tokens.present, tokens.valid)
    assert tokens.valid[:-1].any(1).all()


def test_honest_aggregators_pass():
    check_aggregator(Spread, k=5)
    check_aggregator(Whitened)


def write(index, neighbours, out):
    path = out / "pairs.txt"
    path.write_text("\n".join(neighbours.to_table()["id"].to_pylist()))
    return path


def test_consumers_are_tried_twice(tmp_path: Path):
    check_consumer(write, tmp_path)
    broken = {
        "not the path it wrote": lambda index, neighbours, out: None,
        "which is not there": lambda index, neighbours, out: out / "absent",
        "outside": lambda index, neighbours, out: write(index, neighbours, tmp_path.parent),
    }
    for message, consumer in broken.items():
        with pytest.raises(ConformanceError, match=message):
            check_consumer(consumer, tmp_path / "out")


def test_checks_take_a_stranger_index(tmp_path: Path):
    reader = Listed([item(id="a", uri="0"), item(id="b", uri="1")], columns=pa.schema([]))
    check_consumer(write, tmp_path, FakeIndex(reader))
