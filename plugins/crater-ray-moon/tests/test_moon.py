"""The weights this package carries, on the Moon's relief; and how they are packed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from crater_ray.errors import ConfigError, PluginError
from crater_ray.images import pixels
from crater_ray.plugins import registry
from crater_ray.testing import check_aggregator, check_backbone
from crater_ray.types import TokenShape
from crater_ray_moon.aggregator import Moon
from crater_ray_moon.backbone import DIFFERENCE, moon
from crater_ray_moon.command import moon_pack

torch.set_num_threads(1)
DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3] / "../shared/data")) / "moon"
MAX_PIXELS = 10**8
LIMIT = 4_000_000  # bytes that may be committed
pytestmark = pytest.mark.real


def built(seam, name, **options):
    known = registry()
    return known.build(known.ref(seam, name, options))


@pytest.fixture(scope="module")
def backbone():
    pytest.importorskip("crater_ray_offline", reason="crater-ray-offline is not installed")
    try:
        built("backbone", "dinov2_offline")
    except PluginError as error:
        pytest.skip(str(error))
    return built("backbone", "moon")


def test_the_file_of_differences_is_in_the_package():
    """It belongs to the package, so that its absence is a fault, never a reason to skip."""
    assert DIFFERENCE.is_file()


def test_it_is_small_and_keeps_a_backbones_promises(backbone):
    assert DIFFERENCE.stat().st_size <= LIMIT
    assert backbone.shape == TokenShape(384, (8, 8), heads=6, cls=True)
    check_backbone(backbone)


def test_only_the_last_six_blocks_are_other_than_dinov2s(backbone):
    plain = built("backbone", "dinov2_offline", image_size=112)
    assert backbone.digest != plain.digest
    theirs = plain.model.state_dict()
    other = {
        name for name, tensor in backbone.model.state_dict().items() if not torch.equal(tensor, theirs[name])
    }
    assert {name.split(".")[1] for name in other if name.startswith("blocks.")} == {
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
    }
    assert {name for name in other if not name.startswith("blocks.")} <= {"norm.weight", "norm.bias"}


def test_the_aggregator_keeps_its_promises():
    check_aggregator(Moon)
    with pytest.raises(ConfigError, match="needs a class token"):
        Moon(TokenShape(8, (2, 2), heads=0, cls=False))


def test_turned_queries_find_their_crater_under_another_sun(backbone):
    """Ground that no training view touched: 60 craters of the held-out box, among 240 views."""
    if not (DATA / "moon_gld100_64ppd_50s50n.tif").is_file():
        pytest.skip("the shared data are not here; set CRATER_RAY_DATA")
    where = {
        "kind": "dem",
        "body": "moon",
        "raster": str(DATA / "moon_gld100_64ppd_50s50n.tif"),
        "catalogue": str(DATA / "moon_craters_head_povilaitis.csv"),
        "preset": "head_povilaitis",
        "box": [60.0, -40.0, 120.0, 40.0],
        "min_diameter_km": 20.0,
        "max_diameter_km": 150.0,
        "craters": 120,
    }
    gallery, views = vectors(backbone, built("reader", "mosaic", **where))
    turned = {"views": "query", "queries_per_crater": 1, "query_rotation": 180.0, "co_visible": False}
    queries, asked = vectors(backbone, built("reader", "mosaic", **where, **turned))
    first = (queries @ gallery.T).argmax(1)
    right = np.mean([asked[row] == views[best] for row, best in enumerate(first)])
    assert len(gallery) == 240
    assert right >= 0.9


def vectors(backbone, reader):
    """(N, 768) unit rows of a reader's views, and their craters."""
    items = [item for part in reader.parts() for item in reader.read(part)]
    images = torch.stack([backbone.preprocess(pixels(reader.load(item.uri), MAX_PIXELS)) for item in items])
    aggregator = Moon(backbone.shape)
    with torch.inference_mode():
        rows = [aggregator(backbone(batch))[:, 0] for batch in images.split(32)]
    return torch.cat(rows).numpy(), [item.group for item in items]


def test_packed_weights_are_those_that_were_trained(backbone, tmp_path):
    """A run that changed two matrices: the file is within the limit, and loads as what was trained."""
    plain = built("backbone", "dinov2_offline", image_size=112)
    weights = {name: tensor.numpy().copy() for name, tensor in plain.model.state_dict().items()}
    random = np.random.default_rng(0)
    changed = ("blocks.10.attn.proj.weight", "blocks.11.mlp.fc1.weight")
    for name in changed:
        weights[name] += 0.01 * random.standard_normal(weights[name].shape).astype(np.float32)
    save_file(weights, tmp_path / "backbone.safetensors")
    out = tmp_path / "small.safetensors"
    arguments = [str(tmp_path), "--out", str(out), "--bytes", "500000"]
    assert CliRunner().invoke(moon_pack, arguments, catch_exceptions=False).exit_code == 0
    assert 450_000 < out.stat().st_size <= 500_000
    again = moon(difference=out).model.state_dict()
    for name in changed:
        error = again[name].numpy() - weights[name]
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(
            weights[name] - plain.model.state_dict()[name].numpy()
        )


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "backbone.safetensors")
    for folder in (tmp_path, tmp_path.parent):
        with pytest.raises(ConfigError, match=r"backbone\.safetensors"):
            CliRunner().invoke(moon_pack, [str(folder), "--out", str(tmp_path / "x")], catch_exceptions=False)
