"""The backbones of CraterBench-R's Table 2, as far as they can be named, and relatives that fill its gaps.

The paper compares 30 frozen backbones; its text names the twelve with an mAP here. Which training run of an
architecture it took is not said: where timm has several, the one below is our choice. The others are ours
too: the sizes and methods between and around the named ones. An unknown best pooling is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Pooling = Literal["cls", "mean", "max", "gem"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One frozen backbone."""

    name: str  # as the paper says it
    timm: str | None  # as timm does; None: weights that are not published
    parameters: float  # in millions, without a classifier
    pooling: Pooling | None = None  # best of the paper's four; None: not known
    paper_map: float | None = None  # of one vector with that pooling; None: not of the paper, or not known
    architecture: str | None = None  # that a file of such weights fits

    @property
    def of_paper(self) -> bool:
        return self.paper_map is not None


_BACKBONES: Final = (
    Backbone("MobileNetV3-L", "mobilenetv3_large_100.ra_in1k", 4.2),
    Backbone("EfficientNet-B0", "efficientnet_b0.ra_in1k", 4.0, "mean", 0.248),
    Backbone("DenseNet-121", "densenet121.ra_in1k", 7.0),
    Backbone("ResNet-18", "resnet18.a1_in1k", 11.2),
    Backbone("ResNet-50", "resnet50.a1_in1k", 23.5, "gem", 0.244),
    Backbone("ResNet-50 SSL", "resnet50.fb_ssl_yfcc100m_ft_in1k", 23.5),
    Backbone("ResNet-101", "resnet101.a1_in1k", 42.5),
    Backbone("VGG-16", "vgg16.tv_in1k", 134.3, None, 0.068),
    Backbone("ConvNeXt-T", "convnext_tiny.fb_in1k", 27.8),
    Backbone("ConvNeXt-B", "convnext_base.fb_in22k", 87.6),
    Backbone("ConvNeXt-B DINOv3", "convnext_base.dinov3_lvd1689m", 87.6),
    Backbone("Swin-B", "swin_base_patch4_window7_224.ms_in22k", 86.7),
    Backbone("ViT-S/16", "vit_small_patch16_224.augreg_in21k", 21.7),
    Backbone("ViT-B/16", "vit_base_patch16_224.augreg_in21k", 85.8),
    Backbone("DeiT-S/16", "deit_small_patch16_224.fb_in1k", 21.7),
    Backbone("DeiT-B/16", "deit_base_patch16_224.fb_in1k", 85.8, None, 0.303),
    Backbone("DeiT III-B/16", "deit3_base_patch16_224.fb_in22k_ft_in1k", 85.8),
    Backbone("ViT-S/16 DINO", "vit_small_patch16_224.dino", 21.7, "cls", 0.420),
    Backbone("ViT-S/8 DINO", "vit_small_patch8_224.dino", 21.7),
    Backbone("ViT-B/16 DINO", "vit_base_patch16_224.dino", 85.8),
    Backbone("ViT-B/8 DINO", "vit_base_patch8_224.dino", 85.8, "gem", 0.461),
    Backbone("ViT-S/14 DINOv2", "vit_small_patch14_dinov2.lvd142m", 22.1),
    Backbone("ViT-B/14 DINOv2", "vit_base_patch14_dinov2.lvd142m", 86.6, "max", 0.377),
    Backbone("ViT-B/14 DINOv2 reg", "vit_base_patch14_reg4_dinov2.lvd142m", 86.6),
    Backbone("ViT-L/14 DINOv2", "vit_large_patch14_dinov2.lvd142m", 304.4),
    Backbone("ViT-S/16 DINOv3", "vit_small_patch16_dinov3.lvd1689m", 21.6),
    Backbone("ViT-B/16 DINOv3", "vit_base_patch16_dinov3.lvd1689m", 85.6),
    Backbone("ViT-L/16 DINOv3 sat", "vit_large_patch16_dinov3.sat493m", 303.1),
    Backbone("ViT-7B/16 DINOv3 sat", "vit_7b_patch16_dinov3.sat493m", 6716.0, "max", 0.505),
    Backbone("ViT-B/16 MAE", "vit_base_patch16_224.mae", 85.8, "gem", 0.043),
    Backbone("ViT-B/16 BEiT v2", "beitv2_base_patch16_224.in1k_ft_in22k", 85.8),
    Backbone("ViT-B/16 CLIP", "vit_base_patch16_clip_224.openai", 85.8, "gem", 0.107),
    Backbone("ViT-B/16 SigLIP", "vit_base_patch16_siglip_224.webli", 92.9),
    Backbone("ViT-S/16 MarsDINO", None, 21.7, "gem", 0.412, "vit_small_patch16_224.dino"),
    Backbone("ViT-B/16 MarsDINO", None, 85.8, "cls", 0.553, "vit_base_patch16_224.dino"),
)


def rows() -> list[Backbone]:
    """All of them, in the order of the list: by family, small to large."""
    return list(_BACKBONES)
