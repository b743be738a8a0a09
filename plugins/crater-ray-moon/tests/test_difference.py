"""Differences of weights: what is packed comes back, as near as the grid says, and only onto its own base."""

import zlib

import numpy as np
import pytest
from safetensors.numpy import load, save_file

from crater_ray.errors import PluginError
from crater_ray_moon.difference import added, packed

STEP = 0.01


@pytest.fixture
def base():
    random = np.random.default_rng(0)
    draw = lambda *shape: random.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {
        "blocks.0.norm1.weight": np.array([2.0, 0.5, 0.01, 1.0], np.float32),
        "blocks.0.attn.qkv.weight": draw(12, 4),
        "blocks.0.attn.qkv.bias": draw(12),
        "blocks.0.attn.proj.weight": draw(4, 4),
        "blocks.0.ls1.gamma": np.array([0.1, -0.4, 0.2, 0.2], np.float32),
        "norm.weight": draw(4),
        "pos_embed": draw(1, 5, 4),
    }


@pytest.fixture
def trained(base):
    random = np.random.default_rng(1)
    new = dict(base)
    for name in ("blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "norm.weight"):
        new[name] = base[name] + 0.1 * random.standard_normal(base[name].shape).astype(np.float32)
    return new


def written(tmp_path, data):
    path = tmp_path / "difference.safetensors"
    path.write_bytes(data)
    return path


def test_it_equals_a_slow_decoder(base, trained, tmp_path):
    """base + step * grid / max(|s|, median |s| / 4): s of the norm before a column, the scale after a row."""
    data = packed(base, trained, STEP, {})
    stored = load(data)
    found = added(base, written(tmp_path, data))
    for name, along, scales in (
        ("blocks.0.attn.qkv.weight", 1, base["blocks.0.norm1.weight"]),
        ("blocks.0.attn.proj.weight", 0, base["blocks.0.ls1.gamma"]),
    ):
        grid = list(zlib.decompress(stored[name + ":grid"].tobytes()))
        size = [abs(float(s)) for s in scales]
        floor = float(np.median(size)) / 4
        rows, columns = base[name].shape
        for row in range(rows):
            for column in range(columns):
                level = grid[row * columns + column]
                level = level - 256 if level > 127 else level
                scale = max(size[column if along else row], floor)
                assert found[name][row, column] == pytest.approx(
                    base[name][row, column] + STEP * level / scale, abs=1e-6
                )
                assert abs(found[name][row, column] - trained[name][row, column]) <= STEP / scale / 2 + 1e-6


def test_only_what_was_trained_is_stored(base, trained, tmp_path):
    found = added(base, written(tmp_path, packed(base, trained, STEP, {})))
    assert found.keys() == {"blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "norm.weight"}
    assert np.allclose(found["norm.weight"], trained["norm.weight"], atol=1e-3)


def test_weights_of_another_base_are_refused(base, trained, tmp_path):
    path = written(tmp_path, packed(base, trained, STEP, {}))
    other = base | {"blocks.0.attn.proj.weight": base["blocks.0.attn.proj.weight"] * 1.1}
    with pytest.raises(PluginError, match=r"attn.proj.weight of the base is not the one"):
        added(other, path)


def test_damaged_files_are_told(base, trained, tmp_path):
    data = packed(base, trained, STEP, {})
    for bad in (b"", data[: len(data) // 2], data[:8] + b"x" + data[9:]):
        with pytest.raises(PluginError, match="install crater-ray-moon again"):
            added(base, written(tmp_path, bad))
    save_file({"norm.weight": base["norm.weight"]}, tmp_path / "no_format.safetensors")
    with pytest.raises(PluginError, match="does not fit"):
        added(base, tmp_path / "no_format.safetensors")
    with pytest.raises(PluginError, match="does not fit"):
        added(base, tmp_path / "absent.safetensors")


def test_what_cannot_be_packed_is_refused(base, trained):
    with pytest.raises(ValueError, match=r"one side only: norm\.weight"):
        packed(base, {name: array for name, array in trained.items() if name != "norm.weight"}, STEP, {})
    with pytest.raises(ValueError, match=r"norm\.weight has values that are not finite"):
        packed(base, trained | {"norm.weight": base["norm.weight"] * np.nan}, STEP, {})
    with pytest.raises(ValueError, match=r"norm.weight is \(4,\) and \(3,\)"):
        packed(base, trained | {"norm.weight": np.zeros(3, np.float32)}, STEP, {})
