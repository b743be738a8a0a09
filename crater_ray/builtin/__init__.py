"""What crater-ray itself registers, by the road every plugin takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from crater_ray.plugins import File, Options, PluginSpec, Question, hookimpl

crater_ray_seam = 1

Heads = Literal["mean", "max"]  # how the attention of several heads becomes one
Seeds = Literal["attention", "norm_attention", "norm", "random", "farthest", "medoids", "grid"]
Assign = Literal["none", "mean", "residual", "soft"]
Pooled = Literal["cls", "mean", "max", "gem"]
OfTokens = Literal["instance_tokens", "topk", "all", "mean", "max", "gem"]


class FolderOptions(Options):
    root: File
    pattern: str = "**/*"


class ManifestOptions(Options):
    path: File
    root: File | None = None
    id_column: str = "id"
    path_column: str = "path"
    group_column: str = "group"


class TimmOptions(Options):
    model: str
    weights: File | None = None
    image_size: int | None = Field(None, ge=14)
    pretrained: bool = True
    attention_column: bool = False  # patches-to-class attention as well, which SupScene's code uses
    resize: Literal["squash", "crop"] = "squash"


class GemOptions(Options):
    p: float = Field(3.0, gt=0)
    eps: float = Field(1e-6, gt=0)


class VladOptions(Options):
    clusters: int = Field(32, ge=1)
    whiten: int | None = Field(None, ge=1)  # dimensions to keep


class WhitenedOptions(Options):
    of: Pooled = "cls"
    dim: int = Field(256, ge=1)


def _later(default: Any, **checks: Any) -> Any:
    """An option younger than the indexes in use: at its default it stays out of their configs."""
    return Field(default, exclude_if=lambda value: value == default, **checks)


class TopKOptions(Options):
    k: int = Field(64, ge=1)
    heads: Heads = "mean"
    seeds: Seeds = _later("attention")
    query_k: int | None = _later(None, ge=1)  # of a query, where it is not k
    draw: int = _later(0, ge=0)  # which of the random choices


class InstanceTokensOptions(TopKOptions):
    assign: Assign = _later("residual")
    temperature: float = _later(0.02, gt=0)  # of soft assignment, in cosine

    def unused(self) -> Iterator[tuple[str, str]]:
        if self.assign != "soft":
            yield "temperature", f"assign = {self.assign!r} has none"


class WhitenedTokensOptions(Options):
    of: OfTokens = "instance_tokens"
    of_options: dict[str, Any] = Field(default_factory=dict)
    dim: int | None = Field(None, ge=1)  # axes to keep
    power: float = Field(0.5, ge=0, le=1)  # 0 only centres, 0.5 makes every axis count alike


class PairsOptions(Options):
    top: int = Field(10, ge=1)


@hookimpl
def register_readers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "folder",
        "every image below a folder",
        "crater_ray.builtin.readers.folder:Folder",
        FolderOptions,
        questions=(
            Question("root", "Folder of the images"),
            Question("pattern", "Which of them, as a pattern of paths"),
        ),
    )
    yield PluginSpec(
        "manifest",
        "images and groups listed in a CSV or Parquet table",
        "crater_ray.builtin.readers.manifest:Manifest",
        ManifestOptions,
        questions=(
            Question("path", "Table of the images: .csv, .tsv or .parquet"),
            Question("root", "Folder that its paths are relative to (none: the table's own)"),
            Question("path_column", "Its column of paths"),
            Question("group_column", "Its column of groups: what counts as the same crater or place"),
        ),
    )


@hookimpl
def register_backbones() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "timm",
        "any ViT or CNN of timm",
        "crater_ray.builtin.backbones.timm_model:TimmBackbone",
        TimmOptions,
        questions=(Question("model", "Model, by its name in timm", "vit_small_patch14_dinov2.lvd142m"),),
    )


@hookimpl
def register_aggregators() -> Iterable[PluginSpec]:
    yield PluginSpec("cls", "the class token", "crater_ray.builtin.poolings:Cls")
    yield PluginSpec("mean", "the mean of the patch tokens", "crater_ray.builtin.poolings:Mean")
    yield PluginSpec("max", "the maximum over the patch tokens", "crater_ray.builtin.poolings:Max")
    yield PluginSpec(
        "gem", "generalised mean of the patch tokens", "crater_ray.builtin.poolings:Gem", GemOptions
    )
    yield PluginSpec(
        "whitened",
        "one of cls, mean, max and gem, PCA-whitened",
        "crater_ray.builtin.poolings:Whitened",
        WhitenedOptions,
        fits=True,
    )
    yield PluginSpec(
        "vlad",
        "VLAD over a k-means vocabulary of tokens",
        "crater_ray.builtin.vlad:Vlad",
        VladOptions,
        fits=True,
    )
    yield PluginSpec("all", "every patch token", "crater_ray.builtin.selections:All", locates=True)
    yield PluginSpec(
        "topk",
        "K patch tokens, chosen by attention or one of six other ways",
        "crater_ray.builtin.selections:TopK",
        TopKOptions,
        locates=True,
        asymmetric=True,
    )
    yield PluginSpec(
        "instance_tokens",
        "K attention seeds with residual aggregation (CraterBench-R)",
        "crater_ray.builtin.selections:InstanceTokens",
        InstanceTokensOptions,
        locates=True,
        asymmetric=True,
    )
    yield PluginSpec(
        "whitened_tokens",
        "tokens centred and whitened, then another aggregator of them",
        "crater_ray.builtin.whitened_tokens:WhitenedTokens",
        WhitenedTokensOptions,
        fits=True,
        locates=True,
        asymmetric=True,
    )


@hookimpl
def register_consumers() -> Iterable[PluginSpec]:
    yield PluginSpec(
        "pairs", "image pairs for COLMAP, one 'a b' a line", "crater_ray.builtin.pairs:Pairs", PairsOptions
    )


@hookimpl
def register_commands() -> Iterable[PluginSpec]:
    for name, summary in COMMANDS.items():
        yield PluginSpec(name, summary, f"crater_ray.cli:{name}")


COMMANDS = {  # registered so that no plugin can take one of these names unseen
    "init": "write a job file by asking",
    "index": "encode a job's catalogue into its index",
    "query": "find what looks like some images",
    "neighbours": "write every item's nearest neighbours",
    "consume": "hand an index to a consumer",
    "evaluate": "score an index with its queries",
    "serve": "answer queries over HTTP",
    "plugins": "list every plugin",
    "info": "say what an index holds",
    "verify": "check every checksum of an index",
    "parts": "list an index's parts, or leave some out",
    "compact": "put an index's small parts together",
    "plan": "say what an index will cost",
    "gc": "remove old versions that nobody reads",
}
