"""A training job: TOML in, checked models out. What index jobs know under a name has that name here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from crater_ray.errors import ConfigError
from crater_ray.jobfile import PluginTable, Table, read
from crater_ray.plugins import PluginRef, registry
from crater_ray.plugins.registry import absolute, explain
from crater_ray.precision import Precision


class BackboneTable(PluginTable):
    """[backbone]: a ViT of timm, under whatever name it is registered."""


class AggregatorTable(PluginTable):
    """[aggregator]: one of this package's; its options as in an index job."""

    name: str = "cls_mean"


class TrainTable(Table):
    """[train]"""

    steps: int = Field(default=1000, ge=1)
    blocks: int = Field(default=1, ge=0)  # trained: the backbone's last ones, with its final norm
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps
    last_lr: float = Field(default=1e-7, ge=0)  # where the cosine ends
    clip: float = Field(default=1.0, gt=0)  # of the gradient's norm
    precision: Precision = "bf16"
    project: int | None = Field(default=None, ge=1)  # dimensions of a head that only training has
    project_norm: Literal["batch", "none"] = "batch"
    seed: int = Field(default=0, ge=0)
    patch_keep_rate: float = Field(default=1.0, gt=0, le=1)  # PatchDropout: share of tokens kept in a step
    full_token_share: float = Field(default=0.15, ge=0, le=1)  # share of steps, at the end, without it
    save_every: int = Field(default=50, ge=1)  # steps between checkpoints
    cache: Path | None = None  # of frozen features; jobs may share one. None: out/frozen_features
    cached: Literal["auto", "always", "never"] = "auto"  # auto: where the disk has room

    def unused(self) -> Iterator[tuple[str, str]]:
        if self.project is None:
            yield "project_norm", "project is not given, so there is no head"
        if self.cached == "never":
            yield "cache", "cached = 'never'"
        if self.patch_keep_rate == 1:
            yield "full_token_share", "patch_keep_rate = 1, so every step has all tokens"


class SamplingTable(Table):
    """[sampling]: as crater_ray_supscene.sampling has it."""

    nodes: int = Field(default=32, ge=2)
    subgraphs: int = Field(default=2, ge=1)
    method: Literal["anchor_expand", "balanced", "uniform"] = "anchor_expand"
    samples: int | None = Field(default=None, ge=1)
    hard_negatives: int = Field(default=0, ge=0)  # subgraphs of units similar to each drawn one's


class LossTable(Table):
    """[loss]: as crater_ray_supscene.losses has it."""

    name: Literal["soft_supcon", "supcon", "triplet", "arcface"] = "soft_supcon"
    temperature: float = Field(default=0.1, gt=0)
    positive: float = Field(default=0.25, gt=0, le=1)
    gamma: float = Field(default=0.7, gt=0)
    margin: float = Field(default=0.1, ge=0)
    scale: float = Field(default=30.0, gt=0)
    vector: float = Field(default=1.0, ge=0)
    late: float = Field(default=0.0, ge=0)
    late_temperature: float = Field(default=0.03, gt=0)
    late_tokens: int = Field(default=32, ge=1)  # drawn from each image, each step anew

    def unused(self) -> Iterator[tuple[str, str]]:
        why = f"name = {self.name!r} has none"
        if self.name != "soft_supcon":
            yield "gamma", why
        if self.name not in ("triplet", "arcface"):
            yield "margin", why
        if self.name != "arcface":
            yield "scale", why
        if self.name in ("triplet", "arcface"):
            yield "temperature", why
        if not self.late:
            yield from ((name, "late = 0") for name in ("late_temperature", "late_tokens"))
            if self.name == "arcface":
                yield "positive", why
        if not self.vector:
            yield from ((name, "vector = 0") for name in ("temperature", "margin", "scale"))

    @model_validator(mode="after")
    def _something(self) -> LossTable:
        if not (self.vector or self.late):
            raise ValueError("vector and late are both 0, so there is nothing to learn")
        return self


class ScenesTable(Table):
    """[[scenes]] or [[held_out.scenes]]: where images and their overlaps come from."""

    source: Literal["reader", "pairs", "gl3d", "one_dsfm"] = "reader"
    root: Path | None = None  # of files
    names: tuple[str, ...] = ()  # scenes below root; none: root is one (pairs, one_dsfm)
    listed: Path | None = None  # gl3d: a list of scenes
    measure: str | None = None  # pairs: overlap, overlap_iou; gl3d: mesh_overlap, common_track
    images: str = "undist_images"  # gl3d: the folder in each scene
    symmetrise: Literal["max", "mean"] = "max"
    least_images: int = Field(default=2, ge=1)  # smaller scenes are left out
    reader: PluginTable | None = None
    overlap: Literal["group", "footprint"] = "group"  # reader: same group is 1; or the ground that is shared
    draw: Literal["scene", "group"] | None = None  # what a subgraph comes from; None: group with groups
    radius_km: float = Field(default=1737.4, gt=0)  # of the sphere that footprints lie on

    def unused(self) -> Iterator[tuple[str, str]]:
        of_reader = ("overlap", "draw", "radius_km")
        of_files = ("root", "names", "listed", "measure", "images", "symmetrise")
        not_read: dict[str, tuple[str, ...]] = {
            "reader": of_files,
            "pairs": (*of_reader, "listed", "images"),
            "gl3d": of_reader,
            "one_dsfm": (*of_reader, "listed", "images", "measure"),
        }
        for name in not_read[self.source]:
            yield name, f"source = {self.source!r} does not read it"
        if self.names:
            yield "listed", "names says which scenes"

    @model_validator(mode="after")
    def _consistent(self) -> ScenesTable:
        if (self.source == "reader") != (self.reader is not None):
            raise ValueError("source = 'reader' and a table reader go together")
        if self.source != "reader" and self.root is None:
            raise ValueError(f"source = {self.source!r} needs root")
        if self.source == "gl3d" and not (self.names or self.listed):
            raise ValueError("source = 'gl3d' needs names or listed")
        return self


class HeldOutTable(Table):
    """[held_out]: what is measured while training, and never trained on."""

    every: int = Field(default=100, ge=0)  # steps; and after the last; 0: never
    scenes: tuple[ScenesTable, ...] = ()  # every image asks for the others
    gallery: PluginTable | None = None  # or a gallery, and queries under any name; relevant: the own group
    queries: dict[str, PluginTable] = Field(default_factory=dict)
    disjoint: bool = True  # training views that may touch a held-out view's ground are dropped
    radius_km: float = Field(default=1737.4, gt=0)
    tokens: int = Field(default=64, ge=0)  # an image, for late interaction; 0: not measured
    cuts: tuple[int, ...] = (5, 10, 25)

    def unused(self) -> Iterator[tuple[str, str]]:
        if not self.scenes:
            yield "cuts", "it counts ranks in [[held_out.scenes]], and there is none"

    @model_validator(mode="after")
    def _consistent(self) -> HeldOutTable:
        if bool(self.gallery) != bool(self.queries):
            raise ValueError("gallery and queries go together")
        return self


class ClusterTable(Table):
    """[cluster]: where the work runs."""

    address: str | None = None
    workers: int = Field(default=1, ge=1)
    cpus_per_worker: float = Field(default=1.0, gt=0)
    gpus_per_worker: Annotated[float, Field(ge=0)] | Literal["auto"] = 0.0  # auto: 1 where Ray has as many
    threads: int | None = Field(default=None, ge=1)  # of torch, a worker; None: cores shared out

    @property
    def gpus(self) -> float:
        """Of a worker; none while "auto" is not settled."""
        return 0.0 if self.gpus_per_worker == "auto" else self.gpus_per_worker

    def settled(self, have: float) -> ClusterTable:
        """The same without "auto", where Ray has `have` GPUs."""
        if self.gpus_per_worker != "auto":
            return self
        return self.model_copy(update={"gpus_per_worker": 1.0 if have >= self.workers else 0.0})


class TrainJob(Table):
    """One training job, checked; paths absolute."""

    out: Path
    backbone: BackboneTable
    aggregator: AggregatorTable = AggregatorTable()
    train: TrainTable = TrainTable()
    sampling: SamplingTable = SamplingTable()
    loss: LossTable = LossTable()
    scenes: tuple[ScenesTable, ...] = Field(min_length=1)
    held_out: HeldOutTable = HeldOutTable()
    cluster: ClusterTable = ClusterTable()
    path: Path  # of the job file, for messages and relative paths

    @model_validator(mode="after")
    def _workers_share_evenly(self) -> TrainJob:
        if self.sampling.subgraphs % self.cluster.workers:
            raise ValueError(
                f"sampling.subgraphs is {self.sampling.subgraphs}, no multiple of the {self.cluster.workers} "
                "workers of [cluster]; workers take whole subgraphs, as many each"
            )
        return self

    @property
    def cache(self) -> Path:
        return self.train.cache or self.out / "frozen_features"

    def ref(
        self, kind: Literal["reader", "backbone", "aggregator"], table: PluginTable, where: str
    ) -> PluginRef:
        return registry().ref(
            kind, table.name, table.options, base=self.path.parent, where=f"[{where}] in {self.path.name}"
        )

    def backbone_ref(self) -> PluginRef:
        return self.ref("backbone", self.backbone, "backbone")

    def aggregator_ref(self) -> PluginRef:
        return self.ref("aggregator", self.aggregator, "aggregator")


def load_train(path: str | Path, overrides: Sequence[str] = ()) -> TrainJob:
    """The job of a TOML file, with `a.b=value` overrides applied.

    Raises ConfigError for a missing or malformed file, an unknown key or an override that does not parse.
    """
    path = Path(path)
    return job_of(read(path, overrides), path.resolve())


def job_of(raw: dict[str, Any], path: Path) -> TrainJob:
    """The job of plain data; relative paths are against `path`, of its file. Raises ConfigError."""
    try:
        job = TrainJob(**{**raw, "path": path})
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {explain(error, TrainJob)}") from None
    base = path.parent
    train = job.train
    if train.cache is not None:
        train = train.model_copy(update={"cache": absolute(train.cache, base)})
    held_out = job.held_out.model_copy(update={"scenes": _rooted(job.held_out.scenes, base)})
    update = {"out": Path(os.path.normpath(absolute(job.out, base))), "train": train, "held_out": held_out}
    return job.model_copy(update={**update, "scenes": _rooted(job.scenes, base)})


def _rooted(tables: Sequence[ScenesTable], base: Path) -> tuple[ScenesTable, ...]:
    return tuple(
        table if table.root is None else table.model_copy(update={"root": absolute(table.root, base)})
        for table in tables
    )
