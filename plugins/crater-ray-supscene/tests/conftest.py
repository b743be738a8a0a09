"""Painted hollows under many suns, jobs over them, and one Ray cluster for what trains."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the folder can be tested as it is

SIZE = 64
TRAINED, OBJECTS, VIEWS = 24, 32, 4  # the last objects are held out


@pytest.fixture(scope="session")
def hollows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv, gallery.csv, query.csv for the reader `manifest`: objects' views, shifted and lit anew."""
    folder = tmp_path_factory.mktemp("hollows")
    (folder / "images").mkdir()
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    rows: dict[str, list[tuple[str, str, str]]] = {"train": [], "gallery": [], "query": []}
    for number in range(OBJECTS):
        places = np.random.default_rng(number).uniform(0.15, 0.85, (5, 3))
        for view in range(VIEWS):
            random = np.random.default_rng((number, view))
            shift, sun = random.uniform(-0.06, 0.06, 2), random.uniform(0, 2 * np.pi)
            grey = random.normal(127, 5, x.shape)
            for across, down, size in places:
                right, low = x - across - shift[0], y - down - shift[1]
                radius = 0.05 + 0.15 * size
                slope = (right * np.cos(sun) + low * np.sin(sun)) / radius
                grey += 90 * slope * np.exp(-((np.hypot(right, low) / radius) ** 4))
            name = f"{number:03d}_{view}.png"
            Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / "images" / name)
            role = "train" if number < TRAINED else "query" if view == VIEWS - 1 else "gallery"
            rows[role].append((name, f"images/{name}", f"object-{number:03d}"))
    for role, listed in rows.items():
        with (folder / f"{role}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "path", "group"])
            writer.writerows(listed)
    return folder


@pytest.fixture
def write_train(tmp_path: Path, hollows: Path) -> Callable[..., Path]:
    """A training job over the hollows: keyword tables replace or add to the defaults."""

    def write(name: str = "run", **tables: Mapping[str, Any]) -> Path:
        job: dict[str, dict[str, Any]] = {
            "backbone": {
                "name": "timm",
                "model": "vit_tiny_patch16_224",
                "pretrained": False,
                "image_size": SIZE,
            },
            "aggregator": {"name": "divlad", "clusters": 4, "norm": "none"},
            "train": {"steps": 20, "blocks": 1, "lr": 1e-3, "precision": "fp32", "save_every": 5},
            "sampling": {"nodes": 4, "subgraphs": 4},
            "loss": {"late": 0.5, "late_tokens": 4},
            "held_out": {"every": 10, "tokens": 8},
            "held_out.gallery": {"name": "manifest", "path": str(hollows / "gallery.csv")},
            "held_out.queries.any": {"name": "manifest", "path": str(hollows / "query.csv")},
            "cluster": {"workers": 1, "cpus_per_worker": 0.5, "threads": 1},
        }
        text = f'out = "{name}"\n'
        for key in {**job, **tables}:
            text += _table(f"[{key}]", {**job.get(key, {}), **tables.get(key, {})})
        text += _table("[[scenes]]", {"source": "reader"})
        text += _table("[scenes.reader]", {"name": "manifest", "path": str(hollows / "train.csv")})
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Of the session's cluster: the one that is there, or one of this machine."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address="local",  # never another's that happens to run here
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=150 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield str(ray.get_runtime_context().gcs_address)
    if ours:
        ray.shutdown()


def _table(header: str, values: Mapping[str, Any]) -> str:
    return f"\n{header}\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture
def write_scene(tmp_path: Path) -> Callable[..., Path]:
    """A scene of files below sfm/: images of noise, and overlaps that fall with the distance of numbers."""

    def write(name: str, count: int, missing: tuple[int, ...] = (), overlap: float = 0.8) -> Path:
        folder = tmp_path / "sfm" / name
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = ["image_a,image_b,overlap"]
        for number in range(count):
            noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
            image = Image.fromarray(noise).resize((SIZE, SIZE))
            path = folder / "images" / f"{number}.png"
            path.unlink(missing_ok=True) if number in missing else image.save(path)
            pairs = [(other, max(0.0, overlap - 0.2 * (number - other - 1))) for other in range(number)]
            lines += [f"{other}.png,{number}.png,{share:.1f}" for other, share in pairs]
        (folder / "pairs_gt.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write


@pytest.fixture
def write_photos(tmp_path: Path) -> Callable[..., Path]:
    """A training job over scenes of `write_scene`; `extra` goes to its end."""

    def write(out: str, *names: str, tables: Mapping[str, Any] | None = None, extra: str = "") -> Path:
        job: dict[str, dict[str, Any]] = {
            "backbone": {
                "name": "timm",
                "model": "vit_tiny_patch16_224",
                "pretrained": False,
                "image_size": SIZE,
            },
            "aggregator": {"name": "netvlad", "clusters": 4},
            "train": {
                "steps": 6,
                "lr": 1e-3,
                "precision": "fp32",
                "save_every": 3,
                "cache": "frozen_features",
            },
            "sampling": {"nodes": 4, "subgraphs": 1},
            "cluster": {"threads": 1},
        }
        text = f'out = "{out}"\n'
        for key in {**job, **(tables or {})}:
            text += _table(f"[{key}]", {**job.get(key, {}), **(tables or {}).get(key, {})})
        for name in names:
            text += f'\n[[scenes]]\nsource = "pairs"\nroot = "sfm/{name}"\n'
        path = tmp_path / f"{out}.toml"
        path.write_text(text + extra, encoding="utf-8")
        return path

    return write


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[int, float], dict[int, str]]]:
    """Losses by step of a job trained in this process, and its bad images; killed after step `stop`."""
    from crater_ray_supscene.training import frozen_features, record
    from crater_ray_supscene.training.encoding import fill_one
    from crater_ray_supscene.training.job import load_train
    from crater_ray_supscene.training.loop import work
    from crater_ray_supscene.training.model import kept
    from crater_ray_supscene.training.plan import read_plan
    from crater_ray_supscene.training.run import prepared

    append = record.append

    def train(path: Path, stop: int | None = None) -> tuple[dict[int, float], dict[int, str]]:
        job = load_train(path)
        job.out.mkdir(exist_ok=True)
        job.cache.mkdir(exist_ok=True)
        config, _ = prepared(job, lambda text: None)
        keep = kept(job.train.blocks)
        every = frozen_features.shards(
            read_plan(job.out / "plan"), job.cache, config["digest"], keep, job.train.precision
        )
        for number, shard in enumerate(every):
            if not shard.done:
                fill_one(config, number)

        def killed(out: Path, entry: dict[str, Any]) -> None:
            append(out, entry)
            if entry.get("step") == stop and "device" not in entry:
                raise KeyboardInterrupt

        monkeypatch.setattr(record, "append", killed)
        monkeypatch.setattr(record, "draw_curves", lambda out: None)  # half a second each
        try:
            work({**config, "cached": True})
        except KeyboardInterrupt:
            assert stop is not None
        return {
            e["step"]: e["loss"] for e in record.read(job.out) if "loss" in e
        }, frozen_features.CachedFeatures(every).bad

    return train
