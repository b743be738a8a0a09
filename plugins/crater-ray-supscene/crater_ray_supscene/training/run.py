"""The driver: plan, frozen features, Ray Train, report. Run again to resume a killed run."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crater_ray.errors import ConfigError, ReaderError
from crater_ray.files import write_whole
from crater_ray_supscene.training import checkpoint, record
from crater_ray_supscene.training.cluster import cause, cluster, locked
from crater_ray_supscene.training.encoding import fill_frozen_features
from crater_ray_supscene.training.job import TrainJob, load_train
from crater_ray_supscene.training.plan import digest, make_plan, write_plan
from crater_ray_supscene.training.progress import followed
from crater_ray_supscene.training.record import RUN

RETRIES = 3  # of the worker group, from the latest checkpoint
START = "600"  # seconds for workers to come up: Ray's 60 are few on a machine that is busy
PATIENCE = 7200  # seconds that workers wait for each other, as while one measures

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a run made."""

    model: Path
    curves: Path
    steps: int
    skipped: int  # of the steps: too few images could be used
    loss: float
    held_out: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        paths = {"model": str(self.model), "curves": str(self.curves)}
        steps = {"steps": self.steps, "skipped": self.skipped}
        return {**paths, **steps, "loss": self.loss, "held_out": self.held_out}

    def as_text(self) -> str:
        skipped = f" ({self.skipped} skipped)" if self.skipped else ""
        lines = [f"{self.steps} steps{skipped}, loss {self.loss:.4f}"]
        lines += [f"{name:<32}{value:.4f}" for name, value in self.held_out.items()]
        lines += [f"model: {self.model}", f"curves: {self.curves}"]
        return "\n".join(lines)


def run(job: TrainJob, say: Say = lambda text: None, *, features_only: bool = False) -> TrainingReport | None:
    """The report of a finished run; None where only the frozen features were wanted.

    Raises ConfigError for a job that does not hold or an `out` that holds another run, ReaderError where no
    step had images to teach anything, ClusterError, and CraterRayError when training failed for good.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    with locked(job.out):
        config, row_bytes = prepared(job, say)
        with cluster(job, say) as job:
            config["job"]["cluster"]["gpus_per_worker"] = job.cluster.gpus
            config["cached"] = fill_frozen_features(job, config, row_bytes, say)
            if features_only:
                return None
            _fit(job, config, say)
        return reported(job)


def reported(job: TrainJob) -> TrainingReport:
    """What the log says of a finished run. Raises ReaderError where no step taught anything."""
    entries = record.read(job.out)
    held = [entry["held_out"] for entry in entries if "held_out" in entry]
    losses = [entry for entry in entries if "loss" in entry]
    if not losses:
        raise ReaderError(
            f"none of the {job.train.steps} steps taught anything, so there is no model: no batch had a "
            "positive pair and another image that can be used; look at the images that cannot be used, "
            "and at sampling.nodes and sampling.subgraphs"
        )
    return TrainingReport(
        job.out / "model",
        job.out / record.CURVES,
        job.train.steps,
        sum("skipped" in entry for entry in entries),
        losses[-1]["loss"],
        held[-1] if held else {},
    )


def prepared(job: TrainJob, say: Say) -> tuple[dict[str, Any], int]:
    """What every worker is told, plain data, with the plan written; and the bytes of an image in the cache.

    Raises ConfigError and ReaderError for all that can be known before a worker starts.
    """
    from crater_ray_supscene.training.model import built, frozen_digest, kept

    descriptor = built(job, tail=False)
    made = make_plan(job)
    _same_run(job, digest(made))
    plan = write_plan(made, job.out / "plan")
    say("images: " + ", ".join(f"{len(made.rows(role))} {role}" for role in made.roles()))
    run = uuid.uuid4().hex
    write_whole(job.out / RUN, run.encode())
    shape = descriptor.backbone.shape
    prefix = int(getattr(descriptor.backbone.model, "num_prefix_tokens", 0))
    config = {
        "job": json.loads(job.model_dump_json(exclude={"path"})),
        "path": str(job.path),
        "digest": frozen_digest(descriptor.backbone, kept(job.train.blocks)),
        "plan": plan,
        "run": run,
        "threads": job.cluster.threads or max(1, (os.cpu_count() or 1) // job.cluster.workers),
    }
    return config, 2 * (shape.tokens + prefix) * shape.dim


def _same_run(job: TrainJob, plan: str) -> None:
    """Raises ConfigError where a checkpoint was made from other images, or with another recipe."""
    left = {"out", "path", "cluster", "held_out"}
    recipe = json.loads(job.model_dump_json(exclude=left))
    for key in ("cache", "cached", "save_every"):
        del recipe["train"][key]
    path = job.out / "recipe.json"
    here = {"plan": plan, "job": recipe}
    found = checkpoint.latest(job.out / "checkpoints")
    if found is not None and path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        differ = [key for key in recipe if there["job"].get(key) != recipe[key]]
        differ += ["the images"] if there["plan"] != plan else []
        if differ:
            raise ConfigError(
                f"{job.out} holds a run of another recipe ({', '.join(differ)} differ); name another `out`, "
                "or delete its checkpoints"
            )
    write_whole(path, json.dumps(here, indent=1).encode())


def _fit(job: TrainJob, config: dict[str, Any], say: Say) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from crater_ray_supscene.training.loop import work

    table = job.cluster
    resources = {"CPU": table.cpus_per_worker}
    if table.gpus:
        resources["GPU"] = table.gpus
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START)
    if table.address is None:  # this machine's own processes are not taken away with notice
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    storage = job.out / "ray"
    shutil.rmtree(storage, ignore_errors=True)  # its own state; ours is in checkpoints/
    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=table.workers, use_gpu=bool(table.gpus), resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if table.gpus else "gloo", timeout_s=PATIENCE),
        run_config=RunConfig(
            name="run", storage_path=str(storage), failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    with followed(job, say):
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {})
            raise cause(next(iter(failures.values()), error)) from None
    shutil.rmtree(storage, ignore_errors=True)


def train(path: Path, overrides: tuple[str, ...], say: Say, features_only: bool) -> TrainingReport | None:
    """`run` of a job file."""
    return run(load_train(path, overrides), say, features_only=features_only)
