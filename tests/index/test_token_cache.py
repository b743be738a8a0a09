from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from crater_ray.errors import DamagedIndex
from crater_ray.index.token_cache import TokenCache, token_key
from crater_ray.types import TokenShape

SHAPE = TokenShape(6, (2, 3), 2, True)


def rows(n, seed=0):
    random = np.random.default_rng(seed)
    return {
        "patches": random.standard_normal((n, 6, 6)).astype(np.float16),
        "cls": random.standard_normal((n, 6), np.float32),
        "attention": random.random((n, 2, 6), np.float32),
        "attention_column": random.random((n, 2, 6), np.float32),
        "valid": random.random((n, 6)) < 0.5,
    }


def fill(cache, key="k", sizes=(3, 3, 1)):
    given = rows(sum(sizes))
    with cache.writer(key, SHAPE, attention_column=True, valid=True) as tokens:
        first = 0
        for size in sizes:
            ids = [f"i{row}" for row in range(first, first + size)]
            tokens.append(
                ids,
                **{name: array[first : first + size] for name, array in given.items()},
                bad={0: "truncated"} if first == 3 else None,
            )
            first += size
        return tokens.commit(), given


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_tokens_come_back_in_any_batches(tmp_path, batch):
    cache = TokenCache(tmp_path)
    assert cache.find("k") is None
    written, given = fill(cache)
    found = cache.find("k")
    assert found is not None
    assert found.ids == written.ids == tuple(f"i{row}" for row in range(7))
    assert (found.shape, found.bad, len(found)) == (SHAPE, {3: "truncated"}, 7)
    seen = 0
    for part in found.batches(batch):
        assert part.first == seen
        assert part.ids == found.ids[seen : seen + batch]
        for name, array in given.items():
            np.testing.assert_array_equal(part.arrays[name], array[seen : seen + batch])
        assert part.bad == ({3 - seen: "truncated"} if seen <= 3 < seen + batch else {})
        seen += len(part.ids)
    assert seen == 7
    assert not list((tmp_path / "tmp").iterdir())


def test_patches_alone(tmp_path):
    shape = TokenShape(6, (2, 3), 0, False)
    with TokenCache(tmp_path).writer("k", shape) as tokens:
        tokens.append(["a"], np.ones((1, 6, 6), np.float32))
        found = tokens.commit()
    part = next(found.batches(4))
    assert part.arrays["patches"].dtype == np.float16
    assert set(part.arrays) == {"patches"}
    assert sorted(path.name for path in found.folder.iterdir()) == ["patches.bin", "tokens.json"]


def test_a_part_without_images(tmp_path):
    with TokenCache(tmp_path).writer("k", SHAPE) as tokens:
        tokens.commit()
    found = TokenCache(tmp_path).find("k")
    assert found is not None
    assert list(found.batches(2)) == []


def test_the_key_is_of_all_the_tokens_depend_on(config, make):
    items, reader = make.items("a", 2), make.readers[0]
    same = {
        "reader": reader,
        "backbone": config.backbone,
        "backbone_digest": "d",
        "precision": "bf16",
        "batch": 8,
        "max_pixels": 9,
    }
    key = token_key(items, **same)
    moved = replace(config.backbone, options={"model": "vit", "weights": "/elsewhere"})
    assert token_key(items, **{**same, "backbone": moved}) == key
    newer = replace(config.backbone, version="9.9", module="moved"), replace(reader, version="9.9")
    assert token_key(items, **{**same, "backbone": newer[0], "reader": newer[1]}) == key
    raised = replace(config.backbone, algorithm_version=2)
    others = [token_key(items[:1], **same), token_key(items, **{**same, "backbone": raised})]
    for name, value in {
        "reader": replace(reader, options={"root": "/b"}),
        "backbone_digest": "e",
        "batch": 4,
        "backbone": replace(moved, options={"model": "cnn"}),
        "precision": "fp32",
        "max_pixels": 8,
    }.items():
        others.append(token_key(items, **{**same, name: value}))
    assert len({key, *others}) == 9


def test_a_flipped_bit_is_found_before_anything_is_committed(tmp_path):
    found, _ = fill(TokenCache(tmp_path))
    for name in ("patches", "cls", "attention", "attention_column"):
        path = found.folder / f"{name}.bin"
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(DamagedIndex, match=rf"{name}.bin does not match its checksum; delete its folder"):
            found.check()
        path.write_bytes(data)
    found.check()


def test_damaged_tokens_are_absent_and_written_again(tmp_path):
    cache = TokenCache(tmp_path)
    found, _ = fill(cache)
    (found.folder / "cls.bin").write_bytes(b"short")
    assert cache.find("k") is None
    again, _ = fill(cache)
    again.check()
    (found.folder / "tokens.json").write_text("{}")
    assert cache.find("k") is None


def test_an_attempt_that_is_given_up(tmp_path):
    cache = TokenCache(tmp_path)
    with cache.writer("k", SHAPE) as tokens:
        tokens.append(["a"], *list(rows(1).values())[:3])
    assert cache.find("k") is None
    assert not list((tmp_path / "tmp").iterdir())


def test_the_first_of_two_writers_is_kept(tmp_path):
    cache = TokenCache(tmp_path)
    with cache.writer("k", SHAPE, attention_column=True) as slow:
        fill(cache)
        slow.append(["other"], **rows(1, seed=1))
        assert slow.commit().ids[0] == "i0"


@pytest.mark.parametrize(
    ("name", "array"), [("patches", np.zeros((2, 6, 5))), ("cls", None), ("attention", np.zeros((2, 1, 6)))]
)
def test_rows_of_the_wrong_shape(tmp_path, name, array):
    writer = TokenCache(tmp_path).writer("k", SHAPE)
    with writer as tokens, pytest.raises(ValueError, match=f"{name} must be"):
        tokens.append(["a", "b"], **{**rows(2), name: array})


def test_memory_does_not_grow_with_the_tokens(tmp_path):
    """4,000 images of 64 x 384 float16 are 188 MiB."""
    code = f"""
import resource
import numpy as np
from pathlib import Path
from crater_ray.index.token_cache import TokenCache
from crater_ray.types import TokenShape
patches = np.ones((40, 64, 384), np.float16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with TokenCache(Path({str(tmp_path)!r})).writer("k", TokenShape(384, (8, 8), 0, False)) as tokens:
    for first in range(0, 4000, 40):
        tokens.append([str(first + i) for i in range(40)], patches)
    tokens.commit()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    grown = int(run.stdout)
    assert grown < 32 * 1024  # KiB
