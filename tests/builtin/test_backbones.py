"""The backbone `timm`: shapes, class attention, weights, preprocessing."""

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from crater_ray.builtin.backbones.class_attention import class_attention
from crater_ray.builtin.backbones.resize import Preprocess
from crater_ray.builtin.backbones.timm_model import TimmBackbone
from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins import registry
from crater_ray.testing import check_backbone
from crater_ray.types import TokenShape

torch.set_num_threads(1)


def whole_attention(model, images):
    """(N, H, tokens, tokens) of the last block, by timm's own unfused path."""
    attention = model.blocks[-1].attn
    seen = []
    handle = attention.attn_drop.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    attention.fused_attn = False
    model.forward_features(images)
    attention.fused_attn = True
    handle.remove()
    return seen[0]


SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 0}
ODD = SMALL | {"init_values": 0.5}  # so that the last block's input is not just the embedding
MODELS = {
    "dinov2": ("vit_small_patch14_dinov2", ODD | {"img_size": 70}, 1),
    "registers": ("vit_small_patch14_reg4_dinov2", ODD | {"img_size": 70}, 5),
    "qk_norm": ("vit_small_patch16_224", SMALL | {"img_size": 64, "qk_norm": True}, 1),
    "dinov3": ("vit_small_patch16_dinov3", ODD | {"img_size": 64}, 5),
    "eva_bias": ("vit_small_patch16_dinov3_qkvb", ODD | {"img_size": 64}, 5),
    "eva_unfused": ("vit_small_patch16_dinov3", ODD | {"img_size": 64, "qkv_fused": False}, 5),
    "eva_rope": ("vit_small_patch16_dinov3", ODD | {"img_size": 64, "attn_type": "rope"}, 5),
    "grouped": (
        "vit_small_patch16_dinov3",
        ODD | {"img_size": 64, "attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1},
        5,
    ),
}


@pytest.mark.parametrize("which", MODELS)
def test_class_attention_is_that_of_the_unfused_path(which):
    name, options, prefix = MODELS[which]
    torch.manual_seed(1)
    model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms that are not trivial
    images = torch.randn(2, 3, options["img_size"], options["img_size"])
    with torch.inference_mode():
        whole = whole_attention(model, images)
        reader = class_attention(model, column=True)
        assert reader is not None
        assert model.blocks[-1].attn.fused_attn
        model.forward_features(images)
        row, column = reader.read()
    assert row.shape == (2, 3, whole.shape[-1] - prefix)
    np.testing.assert_allclose(row, whole[:, :, 0, prefix:], atol=1e-6)
    np.testing.assert_allclose(column, whole[:, :, prefix:, 0], atol=1e-6)
    assert row.std() > 1e-4  # a flat one would prove nothing


def test_row_alone_equals_the_row_read_with_the_column():
    images = torch.randn(2, 3, 64, 64)
    row = TimmBackbone("test_vit", image_size=64, pretrained=False)(images)
    both = TimmBackbone("test_vit", image_size=64, pretrained=False, attention_column=True)(images)
    assert row.attention_column is None
    torch.testing.assert_close(row.attention, both.attention)
    assert both.attention_column.shape == both.attention.shape


def test_attention_stays_float32_under_autocast_and_differentiable():
    backbone = TimmBackbone("test_vit", image_size=64, pretrained=False)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = backbone(torch.randn(2, 3, 64, 64))
    assert tokens.attention.dtype == torch.float32
    assert len(tokens.attention.unique()) > 0.9 * tokens.attention.numel()  # bf16 would give ties
    tokens.attention.sum().backward()
    assert backbone.blocks[-1].attn.qkv.weight.grad.abs().sum() > 0


def test_threads_read_their_own_attention_and_a_copy_its_own_hooks():
    backbone = TimmBackbone("test_vit", image_size=64, pretrained=False)
    images = torch.randn(4, 1, 3, 64, 64)
    with torch.inference_mode():
        expected = [backbone(image).attention for image in images]
        found = {}

        def run(at):
            with torch.inference_mode():
                for _ in range(5):
                    found[at] = backbone(images[at]).attention

        threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for at in range(4):
            assert torch.equal(found[at], expected[at])
        twin = copy.deepcopy(backbone)
        twin.blocks[-1].attn.qkv.weight.mul_(3.0)
        assert not torch.equal(twin(images[0]).attention, expected[0])
        assert torch.equal(backbone(images[0]).attention, expected[0])


@pytest.mark.parametrize(
    ("model", "size", "shape"),
    [
        ("test_vit", None, TokenShape(64, (10, 10), 2, True)),
        ("test_vit", 96, TokenShape(64, (6, 6), 2, True)),
        ("test_vit2", 64, TokenShape(64, (4, 4), 0, False)),  # register tokens, no class token
        ("vit_tiny_patch16_224", 32, TokenShape(192, (2, 2), 3, True)),
        ("test_resnet", 96, TokenShape(96, (3, 3), 0, False)),
        ("test_convnext", 96, TokenShape(64, (3, 3), 0, False)),
    ],
)
def test_shape_is_what_comes_out(model, size, shape):
    backbone = TimmBackbone(model, image_size=size, pretrained=False)
    assert backbone.shape == shape
    check_backbone(backbone)
    assert backbone.training is False


def test_registers_are_no_patches():
    backbone = TimmBackbone("vit_small_patch16_dinov3", image_size=32, pretrained=False)
    assert backbone.shape == TokenShape(384, (2, 2), 6, True)
    with torch.inference_mode():
        tokens = backbone(torch.randn(1, 3, 32, 32))
        features = backbone.model.forward_features(torch.zeros(1, 3, 32, 32))
    assert features.shape[1] == 1 + 4 + 4
    assert tokens.patches.shape == (1, 4, 384)


def test_a_cnn_gives_its_map_row_by_row():
    backbone = TimmBackbone("test_resnet", image_size=96, pretrained=False)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        tokens, features = backbone(images), backbone.model.forward_features(images)
    assert torch.equal(tokens.patches[1, 1 * 3 + 2], features[1, :, 1, 2])
    assert tokens.cls is None
    assert tokens.attention is None


def test_weights_from_a_file_equal_the_model_they_came_from(tmp_path: Path):
    source = timm.create_model("test_vit", img_size=64).eval()  # with a classifier, which is left out
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    ref = registry().ref(
        "backbone",
        "timm",
        {"model": "test_vit", "weights": "vit.safetensors", "image_size": 64},
        base=tmp_path,
    )
    backbone = registry().build(ref)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(backbone(images).cls, source.forward_features(images)[:, 0])
    assert "state_dict" not in backbone.model.pretrained_cfg


def test_position_embeddings_are_resampled_to_the_image_size(tmp_path: Path):
    save_file(timm.create_model("test_vit", img_size=160).state_dict(), tmp_path / "vit.safetensors")
    backbone = TimmBackbone("test_vit", tmp_path / "vit.safetensors", image_size=64)
    assert backbone.model.pos_embed.shape[1] == 1 + 4 * 4
    check_backbone(backbone)


def test_digest_follows_the_weights_the_size_and_nothing_else(tmp_path: Path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "one.safetensors")
    (tmp_path / "copy.safetensors").write_bytes((tmp_path / "one.safetensors").read_bytes())
    other = timm.create_model("test_vit")
    with torch.no_grad():
        other.norm.bias[0] += 1e-6
    save_file(other.state_dict(), tmp_path / "other.safetensors")

    def digest(name, **options):
        return TimmBackbone("test_vit", tmp_path / f"{name}.safetensors", **options).digest

    assert digest("one") == digest("copy")
    assert (
        len({digest("one"), digest("other"), digest("one", image_size=96), digest("one", resize="crop")}) == 4
    )


def test_random_weights_are_the_same_everywhere_and_leave_the_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = TimmBackbone("test_vit", pretrained=False)
    assert torch.equal(torch.rand(1), expected)
    assert one.digest == TimmBackbone("test_vit", pretrained=False).digest


def test_weights_that_do_not_fit_are_named(tmp_path: Path):
    tensors = timm.create_model("test_vit").state_dict()
    del tensors["norm.weight"]
    save_file(tensors | {"stranger": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(PluginError, match=r"bad.safetensors does not fit 'test_vit'.*norm.weight.*stranger"):
        TimmBackbone("test_vit", tmp_path / "bad.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(PluginError, match="not a safetensors file"):
        TimmBackbone("test_vit", tmp_path / "text.safetensors")
    with pytest.raises(PluginError, match="there is no such file"):
        TimmBackbone("test_vit", tmp_path / "absent.safetensors")


def test_without_a_hub_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PluginError, match=r"cannot be reached.*FILE.safetensors.*dinov2_offline"):
        TimmBackbone("test_vit")


def test_unknown_models_and_sizes_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'vit_small_patch16_224'"):
        TimmBackbone("vit_smal_patch16_224", pretrained=False)
    with pytest.raises(
        ConfigError, match="100 is not a multiple of 16, the patch of 'test_vit'; use 96 or 112"
    ):
        TimmBackbone("test_vit", image_size=100, pretrained=False)


def ready(**options) -> Preprocess:
    return Preprocess(
        **{
            "size": 32,
            "resize": "squash",
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": (0.1, 0.2, 0.3),
            "std": (0.5, 0.6, 0.7),
        }
        | options
    )


def test_preprocess_of_the_right_size_only_normalises():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    expected = (image / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.6, 0.7)
    np.testing.assert_allclose(ready()(image), expected.transpose(2, 0, 1), atol=1e-6)
    frozen = image.copy()
    frozen.flags.writeable = False  # as Pillow lends them
    assert torch.equal(ready()(frozen), ready()(image))


def test_squash_keeps_the_whole_image_and_crop_is_timms_own():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    small = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    assert torch.equal(ready()(image), ready()(small))
    evaluation = timm.data.create_transform(
        input_size=(3, 32, 32),
        crop_pct=0.875,
        interpolation="bicubic",
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
    )
    np.testing.assert_allclose(ready(resize="crop")(image), evaluation(Image.fromarray(image)), atol=1e-5)


def test_preprocess_refuses_what_is_not_an_image():
    with pytest.raises(ValueError, match="float32"):
        ready()(np.zeros((32, 32, 3), np.float32))
