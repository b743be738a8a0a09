"""What is trained: the last blocks of a ViT, an aggregator, and a head that only training has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import xxhash
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from crater_ray.errors import ConfigError
from crater_ray.plugins import registry
from crater_ray.precision import Precision, in_bfloat16
from crater_ray.types import Tokens
from crater_ray_supscene import AGGREGATORS
from crater_ray_supscene.aggregators.learnt import to_be_trained
from crater_ray_supscene.aggregators.projection import Projection
from crater_ray_supscene.aggregators.saved import Trained
from crater_ray_supscene.training.job import TrainJob


class Descriptor(nn.Module):
    """Images, or frozen features, to vectors and some tokens."""

    def __init__(
        self, backbone: Any, aggregator: Trained, head: Projection | None, precision: Precision
    ) -> None:
        super().__init__()
        self.backbone, self.aggregator, self.head = backbone, aggregator, head
        self._precision = precision

    def train(self, mode: bool = True) -> Descriptor:
        """The backbone stays in evaluation mode: it has no statistics to gather."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, inputs: Tensor, picks: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(n, d) unit rows as the loss sees them, and with picks (n, t) int64 the (n, t, D) tokens picked.

        A batch norm has no statistics of one image: it then uses those that it has gathered.
        """
        with without_statistics(self) if len(inputs) < 2 else nullcontext():
            vectors, tokens = self.described(inputs, picks)
            return vectors if self.head is None else self.head(vectors), tokens

    def described(self, inputs: Tensor, picks: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The same as an index has it: without the head."""
        tokens = self.tokens(inputs)
        vectors: Tensor = self.aggregator(tokens, "gallery")[:, 0]
        if picks is None:
            return vectors, None
        index = picks[:, :, None].expand(-1, -1, tokens.patches.shape[2])
        return vectors, normalize(tokens.patches.gather(1, index), dim=2)

    def tokens(self, inputs: Tensor) -> Tokens:
        """Float32, whatever the blocks computed in."""
        short = in_bfloat16(self._precision, inputs.device.type)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=short):
            found: Tokens = self.backbone(inputs)
        rest = (found.cls, found.attention, found.attention_column)
        cls, attention, column = (x if x is None else x.float() for x in rest)
        return Tokens(found.patches.float(), found.grid, cls, attention, column, found.valid)


@contextmanager
def without_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms neither compute nor gather statistics."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def built_backbone(job: TrainJob) -> Any:
    """The job's backbone, all of it frozen. Raises ConfigError for one whose blocks cannot be told apart."""
    backbone = registry().build(job.backbone_ref())
    model = getattr(backbone, "model", None)
    if not isinstance(model, VisionTransformer):
        raise ConfigError(
            f"[backbone] {job.backbone.name!r} in {job.path.name} is no VisionTransformer of timm, so its "
            "last blocks cannot be trained; use timm or dinov2_offline"
        )
    if job.train.blocks > len(model.blocks):
        raise ConfigError(f"train.blocks is {job.train.blocks}, but the backbone has {len(model.blocks)}")
    for weight in backbone.parameters():
        weight.requires_grad_(False)
    return backbone


def built_aggregator(job: TrainJob, backbone: Any) -> Trained:
    """The job's aggregator. Raises ConfigError for one that this package cannot train."""
    with to_be_trained():
        aggregator = registry().build(job.aggregator_ref(), backbone.shape)
    if not isinstance(aggregator, Trained):
        raise ConfigError(
            f"[aggregator] {job.aggregator.name!r} in {job.path.name} has nothing to train; use one of "
            f"{', '.join(AGGREGATORS)}"
        )
    return aggregator


def built(job: TrainJob, *, tail: bool) -> Descriptor:
    """The whole model; only what is trained has gradients. tail: its backbone takes frozen features.

    Raises ConfigError as its parts do, and where nothing would be trained.
    """
    backbone = built_backbone(job)
    aggregator = built_aggregator(job, backbone)
    train = job.train
    head = Projection(aggregator.dim, train.project, norm=train.project_norm) if train.project else None
    if train.blocks:
        model = backbone.model
        for part in (*model.blocks[-train.blocks :], model.norm):
            for weight in part.parameters():
                weight.requires_grad_(True)
    if tail:
        as_trained_part(backbone, kept(train.blocks))
    descriptor = Descriptor(backbone, aggregator, head, train.precision)
    if not any(weight.requires_grad for weight in descriptor.parameters()):
        raise ConfigError(
            f"{job.path.name}: train.blocks is 0 and {job.aggregator.name!r} has no weights, "
            "so nothing is trained"
        )
    return descriptor


def unfused(descriptor: Descriptor) -> None:
    """Attention by matrix products: on a CPU a step takes a quarter less than with torch's fused kernel.

    Measured on one core with 129 and 257 tokens, bfloat16, torch 2.15: x 0.71 and x 0.81.
    """
    for module in descriptor.backbone.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False


def kept(blocks: int) -> int:
    """Blocks that run in every step: those trained, and at least the last, whose attention is read."""
    return max(blocks, 1)


def frozen_digest(backbone: Any, keep: int) -> str:
    """16 hex digits over what hidden tokens depend on: preprocessing, and the weights before `keep` blocks.

    Models that differ only in trained blocks share their frozen features, and so the cache.
    """
    model = backbone.model
    last = len(model.blocks) - keep
    hasher = xxhash.xxh3_64(f"{backbone.shape.grid} {keep}".encode())
    ramp = np.arange(37 * 53 * 3, dtype=np.int64).reshape(37, 53, 3) * 7 % 256
    hasher.update(backbone.preprocess(ramp.astype(np.uint8)).contiguous().numpy().data)
    for name, tensor in sorted(model.state_dict().items()):
        block = re.match(r"blocks\.(\d+)\.", name)
        if (int(block[1]) >= last) if block else name.startswith(("norm.", "fc_norm.", "head.")):
            continue
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def as_frozen_part(backbone: Any, keep: int) -> Callable[[Tensor], Tensor]:
    """Images (N, 3, S, S) to hidden tokens (N, prefix + T, D) before the last `keep` blocks.

    The backbone is changed: from now on it computes frozen features only.
    """
    model = backbone.model
    model.blocks, model.norm = model.blocks[:-keep], nn.Identity()
    forward: Callable[[Tensor], Tensor] = model.forward_features
    return forward


def as_trained_part(backbone: Any, keep: int) -> None:
    """Changes a backbone so that it takes hidden tokens before its last `keep` blocks in place of images."""
    model = backbone.model
    model.patch_embed, model.norm_pre, model._pos_embed = nn.Identity(), nn.Identity(), _same
    model.blocks = model.blocks[-keep:]


def _same(hidden: Tensor) -> Tensor:
    return hidden
