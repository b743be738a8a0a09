"""Training from its command: two workers, killed and resumed, against one; its model in an index job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray import embed, load_job
from crater_ray.errors import ConfigError
from crater_ray.plugins import registry
from crater_ray_supscene.training import record
from crater_ray_supscene.training.batch import drawn, patch_dropout
from crater_ray_supscene.training.job import load_train
from crater_ray_supscene.training.loop import work
from crater_ray_supscene.training.run import prepared, run

torch.set_num_threads(1)
STEPS = 48


def start(path: Path, *extra: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "crater_ray.cli", "train", str(path), "--json", *extra]
    env = {**os.environ, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finished(path: Path, *extra: str) -> dict[str, Any]:
    process = start(path, *extra)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


def losses(out: Path) -> dict[int, float]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    assert len(dict(found)) == len(found)  # no step twice
    return dict(found)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_two_workers_killed_and_resumed_learn_what_one_learns(
    write_train: Callable[..., Path], ray_address: str, tmp_path: Path, hollows: Path
) -> None:
    cache = str(tmp_path / "frozen_features")
    train = {"steps": STEPS, "save_every": 7, "cache": cache, "patch_keep_rate": 0.6}
    held = {"every": STEPS}
    one = write_train("one", train=train, held_out=held, cluster={"address": ray_address})
    two = write_train("two", train=train, held_out=held, cluster={"address": ray_address, "workers": 2})

    process = start(two)
    assert process.stderr is not None
    for line in process.stderr:
        step = re.match(rf"step (\d+)/{STEPS} ", line)
        if step and int(step[1]) >= 12:  # a checkpoint is there
            break
    process.kill()
    process.communicate()
    before = losses(tmp_path / "two")
    assert not (tmp_path / "two" / "model").exists()
    saved = sorted(int(path.name) for path in (tmp_path / "two" / "checkpoints").glob("[0-9]*"))
    resumed = finished(two)
    both = losses(tmp_path / "two")
    assert sorted(both) == list(range(1, STEPS + 1))
    assert resumed["steps"] == STEPS
    again = [step for step in before if step > saved[-1] and step in both]
    assert all(before[step] == pytest.approx(both[step], abs=1e-5) for step in again)

    job = load_train(one)
    job.out.mkdir()
    config, _ = prepared(job, print)
    work({**config, "cached": True})  # as one worker runs it, here; the frozen features are there already
    single = losses(tmp_path / "one")
    held_out = [entry for entry in record.read(tmp_path / "one") if "held_out" in entry][-1]["held_out"]
    assert max(abs(single[step] - both[step]) for step in range(1, 21)) < 1e-4
    assert np.mean([single[step] for step in range(STEPS - 9, STEPS + 1)]) < single[1]
    assert held_out.keys() == resumed["held_out"].keys() >= {"any mAP", "any late mAP"}

    model = tmp_path / "one" / "model"
    assert sorted(path.name for path in model.iterdir()) == [
        "aggregator.json",
        "aggregator.safetensors",
        "backbone.json",
        "backbone.safetensors",
    ]
    assert (tmp_path / "one" / "curves.png").stat().st_size > 10_000
    index = tmp_path / "index.toml"
    index.write_text(
        'out = "index"\n[reader]\nname = "manifest"\n'
        f'path = "{hollows / "gallery.csv"}"\n'
        '[backbone]\nname = "trained"\npath = "one/model"\n'
        '[shortlist]\nname = "divlad"\npath = "one/model"\n'
        '[rerank]\nname = "instance_tokens"\nk = 8\n'
    )
    images = [(hollows / "images" / f"030_{view}.png").read_bytes() for view in range(2)]
    vectors, tokens = embed(load_job(index), images)
    assert vectors.shape == (2, 1, 4 * 192)
    assert tokens.shape == (2, 8, 192)
    plain = registry().build(load_train(one).backbone_ref())
    assert registry().build(load_job(index).backbone_ref()).digest != plain.digest

    with pytest.raises(ConfigError, match=r"another recipe \(loss differ\)"):
        run(load_train(one, ["loss.temperature=0.2"]))


def test_patch_dropout_keeps_the_prefix_and_draws_other_patches_in_each_row() -> None:
    hidden = torch.arange(3 * 7 * 2, dtype=torch.float32).reshape(3, 7, 2)  # a prefix of 2, 5 patches
    kept = drawn(3, 5, 2, (0, 4, 1))
    found = patch_dropout(hidden, torch.from_numpy(kept), prefix=2).numpy()
    for row in range(3):
        assert len(set(kept[row].tolist())) == 2
        wanted = [hidden[row, at].numpy() for at in (0, 1, *(2 + kept[row]))]
        np.testing.assert_array_equal(found[row], np.stack(wanted))
    assert drawn(4, 5, 9, (0, 4, 1)).shape == (4, 5)
    np.testing.assert_array_equal(kept, drawn(3, 5, 2, (0, 4, 1)))
