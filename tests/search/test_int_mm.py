"""A quick integer product is believed for the shapes it is right for: wrong ones are simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crater_ray.search import kernel
from crater_ray.search.codecs import NAMES, codec
from crater_ray.search.scoring import SCORINGS

torch.set_num_threads(1)

Wrong = Callable[[int, int, int], bool]  # rows, inner dimension, columns
# as on CPUs with AMX; where tiles are not full; where there are many columns; everywhere
WRONG: dict[str, Wrong] = {
    "inner dimension of one": lambda m, d, n: d == 1,
    "odd rows": lambda m, d, n: m % 2 == 1,
    "odd columns": lambda m, d, n: n % 2 == 1,
    "odd inner dimension": lambda m, d, n: d % 2 == 1,
    "rows left over of 16": lambda m, d, n: m % 16 != 0,
    "one width": lambda m, d, n: n == 27,
    "small": lambda m, d, n: m < 8,
    "large": lambda m, d, n: m > 100,
    "all": lambda m, d, n: True,
}
SHAPES = [(1, 3, 5, 3, 1), (2, 7, 50, 3, 5), (3, 9, 41, 4, 16), (1, 27, 13, 5, 12), (1, 1, 1, 1, 1)]


def spoilt(wrong: Wrong, exact: bool = True) -> Callable[..., Any]:
    """`_int_mm`, right on any CPU, but garbage where it is said to be."""

    def product(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        out.copy_((left.double() @ right.double()).to(torch.int32))
        if wrong(*left.shape, right.shape[1]):
            out.fill_(123_456) if exact else out.view(-1)[-1:].add_(1)
        return out

    return product


def unit(*shape: int, seed: int) -> np.ndarray:
    tokens = np.random.default_rng(seed).normal(size=shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_scores_are_right_whatever_the_cpu_gets_wrong(
    wrong: Wrong, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for b, q, c, k, dim in SHAPES:
        queries = unit(b, q, dim, seed=0)
        for name in NAMES:
            codes, scales = codec(name).encode(unit(c, k, dim, seed=1))
            for scoring in SCORINGS.keys() - {"consistent"}:  # as mutual, of square grids
                asked = {"codec": name, "k": k, "dim": dim, "scoring": scoring}
                monkeypatch.setattr(kernel, "has_int_mm", lambda: False)
                expected = kernel.score(queries, codes, scales, **asked)
                (plain,) = {
                    len(one.contribution) for one in [kernel.explain(queries[0], codes, scales, **asked)[0]]
                }
                monkeypatch.setattr(kernel, "has_int_mm", lambda: True)
                monkeypatch.setattr(torch, "_int_mm", spoilt(wrong, exact))
                assert np.array_equal(kernel.score(queries, codes, scales, **asked), expected)
                found = kernel.explain(queries[0], codes, scales, **asked)
                assert len(found[0].contribution) == plain
                if plain:
                    sums = [one.contribution.sum() for one in found]
                    np.testing.assert_allclose(sums, expected[0], atol=1e-5)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_shape_is_believed_if_it_is_right(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", spoilt(wrong))
    for shape in [
        (1, 1, 1),
        (7, 16, 4),
        (33, 24, 5),
        (128, 9, 27),
        (129, 9, 28),
        (4096, 8, 64),
        (4099, 8, 64),
    ]:
        assert kernel.believed(*shape) == (not wrong(*shape))


def test_each_class_of_shapes_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def product(left: Tensor, right: Tensor, *, out: Tensor) -> None:
        calls.append(tuple(left.shape))
        assert int(left.max()) == 127
        assert int(left.min()) >= -127  # as codes are
        out.copy_((left.double() @ right.double()).to(torch.int32))

    monkeypatch.setattr(torch, "_int_mm", product)
    assert all(kernel.believed(rows, 384, 64) for rows in (4096, 16_384, 640, 4096))
    assert calls == [(128, 384)]
    assert kernel.believed(4096 + 49, 384, 64)
    assert kernel.believed(49, 384, 64)
    assert calls == [(128, 384), (177, 384), (49, 384)]


def test_what_raises_or_is_not_there_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Tensor, out: Tensor) -> None:
        raise RuntimeError("not built for this CPU")

    monkeypatch.setattr(torch, "_int_mm", refuses)
    assert not kernel.believed(16, 8, 4)
    monkeypatch.delattr(torch, "_int_mm")
    assert not kernel.believed(16, 8, 4)


@pytest.mark.skipif(not hasattr(torch, "_int_mm"), reason="this torch has none")
def test_this_cpu_is_right_wherever_it_is_believed() -> None:
    draws = torch.Generator().manual_seed(3)
    for rows, dim, columns in [(1, 1, 1), (64, 1, 17), (33, 7, 6), (512, 384, 64), (1000, 1040, 196)]:
        left = torch.randint(-127, 128, (rows, dim), generator=draws, dtype=torch.int8)
        right = torch.randint(-127, 128, (dim, columns), generator=draws, dtype=torch.int8)
        if kernel.believed(rows, dim, columns):
            out = torch._int_mm(left, right)
            assert torch.equal(out.double(), left.double() @ right.double())
