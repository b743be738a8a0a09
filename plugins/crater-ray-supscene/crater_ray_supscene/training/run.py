"""The driver: plan, trunk, Ray Train, report. Run again to go on where a killed run stopped."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crater_ray.errors import ClusterError, ConfigError, CraterRayError
from crater_ray_supscene.training import checkpoint, record
from crater_ray_supscene.training.job import TrainJob, load_train
from crater_ray_supscene.training.plan import digest, make_plan, read_plan, write_plan

STORE_BYTES = 150 * 2**20  # of the object store: big arrays go through files
RETRIES = 3  # of the worker group, from the latest checkpoint
START = "600"  # seconds for workers to come up: Ray's 60 are few on a machine that is busy
PATIENCE = 7200  # seconds that workers wait for each other, as while one measures

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run made."""

    model: Path
    curves: Path
    steps: int
    loss: float
    held_out: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        paths = {"model": str(self.model), "curves": str(self.curves)}
        return {**paths, "steps": self.steps, "loss": self.loss, "held_out": self.held_out}

    def as_text(self) -> str:
        lines = [f"{self.steps} steps, loss {self.loss:.4f}"]
        lines += [f"{name:<32}{value:.4f}" for name, value in self.held_out.items()]
        lines += [f"model: {self.model}", f"curves: {self.curves}"]
        return "\n".join(lines)


def run(job: TrainJob, say: Say = lambda text: None, *, trunk_only: bool = False) -> Report | None:
    """The report of a finished run; None where only the trunk's cache was wanted.

    Raises ConfigError for a job that does not hold or an `out` that holds another run, ClusterError, and
    CraterRayError when training failed for good.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    with _locked(job.out):
        config, row_bytes = prepared(job, say)
        with _cluster(job):
            config["cached"] = _trunk(job, config, row_bytes, say)
            if trunk_only:
                return None
            _fit(job, config, say)
        entries = record.read(job.out)
        held = [entry["held_out"] for entry in entries if "held_out" in entry]
        losses = [entry for entry in entries if "loss" in entry]
        return Report(
            job.out / "model",
            job.out / record.CURVES,
            losses[-1]["step"],
            losses[-1]["loss"],
            held[-1] if held else {},
        )


def prepared(job: TrainJob, say: Say) -> tuple[dict[str, Any], int]:
    """What every worker is told, plain data, with the plan written; and the bytes of an image in the cache.

    Raises ConfigError and ReaderError for all that can be known before a worker starts.
    """
    from crater_ray_supscene.training.model import built

    descriptor = built(job, tail=False)
    made = make_plan(job)
    _same_run(job, digest(made))
    told = write_plan(made, job.out / "plan")
    say("images: " + ", ".join(f"{len(made.rows(role))} {role}" for role in made.roles()))
    shape = descriptor.backbone.shape
    prefix = int(getattr(descriptor.backbone.model, "num_prefix_tokens", 0))
    config = {
        "job": json.loads(job.model_dump_json(exclude={"path"})),
        "path": str(job.path),
        "digest": descriptor.backbone.digest,
        "plan": told,
        "threads": job.cluster.threads or max(1, (os.cpu_count() or 1) // job.cluster.workers),
    }
    return config, 2 * (shape.tokens + prefix) * shape.dim


def _same_run(job: TrainJob, plan: str) -> None:
    """Raises ConfigError where a checkpoint was made from other images, or with another recipe."""
    left = {"out", "path", "cluster", "held_out"}
    told = json.loads(job.model_dump_json(exclude=left))
    for key in ("cache", "cached", "save_every"):
        del told["train"][key]
    path = job.out / "recipe.json"
    here = {"plan": plan, "job": told}
    found = checkpoint.latest(job.out / "checkpoints")
    if found is not None and path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        differ = [key for key in told if there["job"].get(key) != told[key]]
        differ += ["the images"] if there["plan"] != plan else []
        if differ:
            raise ConfigError(
                f"{job.out} holds a run of another recipe ({', '.join(differ)} differ); name another `out`, "
                "or delete its checkpoints"
            )
    path.write_text(json.dumps(here, indent=1), encoding="utf-8")


def _trunk(job: TrainJob, config: dict[str, Any], row_bytes: int, say: Say) -> bool:
    """Fills the cache with as many tasks as workers; whether training reads it."""
    import ray

    from crater_ray_supscene.training import trunk
    from crater_ray_supscene.training.model import kept

    if job.train.cached == "never":
        return False
    plan, keep = read_plan(job.out / "plan"), kept(job.train.blocks)
    every = trunk.shards(plan, job.cache, config["digest"], keep, job.train.precision)
    missing = [number for number, shard in enumerate(every) if not shard.done]
    if not trunk.fits([every[number] for number in missing], row_bytes, job.cache):
        if job.train.cached == "always":
            raise ConfigError(
                f"the trunk's output takes {len(plan) * row_bytes / 2**30:.1f} GiB, which {job.cache} has no "
                "room for; set train.cache to another disk, or train.cached = 'never'"
            )
        say("the trunk's output does not fit the disk: images are encoded in every step")
        return False
    task = ray.remote(num_cpus=job.cluster.cpus_per_worker, num_gpus=job.cluster.gpus_per_worker)(fill_one)
    waiting = list(reversed(missing))
    there = sum(len(shard.rows) for shard in every if shard.done)
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < job.cluster.workers:
            running.append(task.remote(config, waiting.pop()))
        ready, running = ray.wait(running, num_returns=1)
        for one in ready:
            try:
                there += ray.get(one)
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
        say(f"trunk: {there} of {len(plan)} images")
    bad = trunk.Cached(every).bad
    if bad:
        row, reason = next(iter(bad.items()))
        say(f"{len(bad)} images cannot be used, the first {plan.images['id'][row].as_py()}: {reason}")
    return True


_ready: dict[str, Any] = {}


def fill_one(config: dict[str, Any], number: int) -> int:
    """The images of one shard of the trunk's cache; a task of Ray, whose process keeps what it has built."""
    import torch

    from crater_ray_supscene.training import trunk
    from crater_ray_supscene.training.job import job_of
    from crater_ray_supscene.training.model import as_trunk, built_backbone, kept
    from crater_ray_supscene.training.pictures import Pictures

    key = json.dumps(config, sort_keys=True)
    if _ready.get("key") != key:
        torch.set_num_threads(config["threads"])
        job = job_of(config["job"], Path(config["path"]))
        plan = read_plan(job.out / "plan")
        backbone = built_backbone(job)
        keep, precision = kept(job.train.blocks), job.train.precision
        size = backbone.preprocess(_grey()).shape
        every = trunk.shards(plan, job.cache, config["digest"], keep, precision)
        pictures = Pictures(plan, backbone)
        device = "cuda" if job.cluster.gpus_per_worker else "cpu"
        trunked = as_trunk(backbone.to(device), keep)
        _ready.update(key=key, every=every, rest=(pictures, trunked, size, precision, device))
    shard = _ready["every"][number]
    trunk.fill(shard, *_ready["rest"])
    return len(shard.rows)


def _grey() -> Any:
    import numpy as np

    return np.zeros((32, 32, 3), np.uint8)


def _fit(job: TrainJob, config: dict[str, Any], say: Say) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from crater_ray_supscene.training.loop import work

    table = job.cluster
    resources = {"CPU": table.cpus_per_worker}
    if table.gpus_per_worker:
        resources["GPU"] = table.gpus_per_worker
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START)
    if table.address is None:  # this machine's own processes are not taken away with notice
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    storage = job.out / "ray"
    shutil.rmtree(storage, ignore_errors=True)  # its own state; ours is in checkpoints/
    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=table.workers, use_gpu=bool(table.gpus_per_worker), resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if table.gpus_per_worker else "gloo", timeout_s=PATIENCE),
        run_config=RunConfig(
            name="run", storage_path=str(storage), failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    with _told(job, say):
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {})
            raise _cause(next(iter(failures.values()), error)) from None
    shutil.rmtree(storage, ignore_errors=True)


def _cause(error: BaseException) -> CraterRayError:
    """What went wrong in a worker: our own error as it was, or the last line of another."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, CraterRayError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return CraterRayError(f"training failed: {lines[-1] if lines else type(error).__name__}")


@contextmanager
def _told(job: TrainJob, say: Say) -> Iterator[None]:
    """Says new lines of the log as they come."""
    over = threading.Event()
    found = checkpoint.latest(job.out / "checkpoints")
    start = (-1, False) if found is None else (int(checkpoint.read_told(found)["step"]), True)

    def follow() -> None:
        seen = start
        while not over.wait(0.5):
            seen = _say_new(job, seen, say)
        _say_new(job, seen, say)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _say_new(job: TrainJob, seen: tuple[int, bool], say: Say) -> tuple[int, bool]:
    """The last line told: its step, and whether it was of what is held out."""
    for entry in record.read(job.out):
        here = (entry["step"], "held_out" in entry)
        if here <= seen:
            continue
        seen = here
        if "loss" in entry:
            say(f"step {entry['step']}/{job.train.steps} loss {entry['loss']:.4f} {entry['seconds']:.2f} s")
        else:
            numbers = [f"{name} {value:.3f}" for name, value in entry["held_out"].items() if _short(name)]
            say(f"step {entry['step']}: {', '.join(numbers)}")
    return seen


def _short(name: str) -> bool:
    return name.endswith(("mAP", "hit@1", "@10", "/min(P,10)"))


@contextmanager
def _cluster(job: TrainJob) -> Iterator[None]:
    """Connected inside, left as found. Raises ClusterError, or ConfigError for more than the cluster has."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ours = not ray.is_initialized()
    table = job.cluster
    if ours:
        local = {} if table.address else {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        try:
            ray.init(address=table.address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = table.address or "this machine"
            raise ClusterError(f"no Ray cluster at {where}: {error}; leave cluster.address out") from error
    try:
        have = ray.cluster_resources()
        for name, each in (("CPU", table.cpus_per_worker), ("GPU", table.gpus_per_worker)):
            if table.workers * each > have.get(name, 0.0):
                raise ConfigError(
                    f"[cluster] asks for {table.workers} workers of {each:g} {name}, but the cluster has "
                    f"{have.get(name, 0.0):g}; lower workers or {name.lower()}s_per_worker"
                )
        yield
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{out} is in use by another training; wait for it, or name another `out`"
            ) from None
        yield


def train(path: Path, overrides: tuple[str, ...], say: Say, trunk_only: bool) -> Report | None:
    """`run` of a job file."""
    return run(load_train(path, overrides), say, trunk_only=trunk_only)
