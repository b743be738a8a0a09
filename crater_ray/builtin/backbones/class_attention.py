"""What the class token attends to in the last block, without switching fused attention off."""

from __future__ import annotations

import threading
from typing import Any

import torch
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.models.eva import EvaAttention
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

# Softmax of scaled q.k and nothing else (rotated where there is RoPE). Modules that add a position bias to
# the logits are not here: q and k alone would give another distribution than the model's own.
READABLE = (Attention, EvaAttention, AttentionRope)


class ClassAttention:
    """Reads q and k of one attention module as they pass, and does its softmax again for the class token.

    All readable modules run q and k through `q_norm` and `k_norm` (identities where a model has no norm),
    after their biases and before RoPE: a hook there sees both, whatever the projections look like.
    """

    def __init__(self, attention: Any, prefix: int, column: bool) -> None:
        self._attention = attention
        self._prefix = prefix  # class and register tokens before the patches
        self._column = column
        self._seen: dict[int, dict[str, Tensor | None]] = {}  # by thread: one model may answer several
        self._attention.register_forward_pre_hook(self._on_enter, with_kwargs=True)
        self._attention.q_norm.register_forward_hook(self._on_query)
        self._attention.k_norm.register_forward_hook(self._on_key)

    @property
    def heads(self) -> int:
        return int(self._attention.num_heads)

    def read(self) -> tuple[Tensor, Tensor | None]:
        """Of this thread's last forward pass: (N, H, T) class to patches, and patches to class if asked for.

        Float32, after the softmax over all tokens, so a row sums to less than one.
        """
        seen = self._seen.pop(threading.get_ident())
        query, key, rope = seen["query"], seen["key"], seen["rope"]
        if query is None or key is None:
            raise RuntimeError("the attention module gave no queries or keys")
        with torch.autocast(query.device.type, enabled=False):
            query, key = query.float(), key.float()
            groups = query.shape[1] // key.shape[1]  # grouped-query attention has fewer key heads
            key = self._rotated(key, rope)
            if groups > 1:
                key = key.repeat_interleave(groups, dim=1)
            if not self._column:
                query = query[:, :, :1]  # a prefix token, which RoPE leaves alone
                return self._softmax(query, key)[:, :, 0, self._prefix :], None
            weights = self._softmax(self._rotated(query, rope), key)
            return weights[:, :, 0, self._prefix :], weights[:, :, self._prefix :, 0]

    def _softmax(self, query: Tensor, key: Tensor) -> Tensor:
        scale = float(self._attention.scale)
        return ((query * scale) @ key.transpose(-2, -1)).softmax(-1)

    def _rotated(self, tokens: Tensor, rope: Tensor | None) -> Tensor:
        if rope is None:
            return tokens
        first, rest = tokens[:, :, : self._prefix], tokens[:, :, self._prefix :]
        half = bool(getattr(self._attention, "rotate_half", False))
        return torch.cat([first, apply_rot_embed_cat(rest, rope.float(), half=half)], dim=2)

    def _on_enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rope = kwargs.get("rope")
        if rope is None and isinstance(module, (EvaAttention, AttentionRope)) and len(args) > 1:
            rope = args[1]
        self._seen[threading.get_ident()] = {"rope": rope, "query": None, "key": None}

    def _on_query(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._seen[threading.get_ident()]["query"] = output

    def _on_key(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._seen[threading.get_ident()]["key"] = output


def class_attention(model: nn.Module, column: bool) -> ClassAttention | None:
    """A reader on the model's last block; None without a class token or without readable attention."""
    blocks = getattr(model, "blocks", None)
    if getattr(model, "cls_token", None) is None or not isinstance(blocks, (nn.ModuleList, nn.Sequential)):
        return None
    attention = getattr(blocks[-1], "attn", None)
    if not isinstance(attention, nn.Module) or type(attention) not in READABLE:  # a subclass may do anything
        return None
    return ClassAttention(attention, int(getattr(model, "num_prefix_tokens", 1)), column)
