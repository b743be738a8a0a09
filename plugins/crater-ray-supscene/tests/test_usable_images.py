"""Runs over images that are missing, come late, or teach nothing; runs that are cut off and go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray.errors import ConfigError, CraterRayError, ReaderError
from crater_ray_supscene.losses.objective import Objective, Terms
from crater_ray_supscene.training import record
from crater_ray_supscene.training.job import load_train
from crater_ray_supscene.training.loop import _learnt
from crater_ray_supscene.training.plan import digest, make_plan
from crater_ray_supscene.training.run import reported, run

torch.set_num_threads(1)
Write = Callable[..., Path]
Train = Callable[..., tuple[dict[int, float], dict[int, str]]]


def test_an_image_that_comes_late_or_is_replaced_is_read_anew(
    write_scene: Write, write_photos: Write, train_here: Train
) -> None:
    write_scene("s", 6, missing=(2, 3))
    first, bad = train_here(write_photos("one", "s"))
    assert bad == {2: "file is gone", 3: "file is gone"}
    before = digest(make_plan(load_train(write_photos("one", "s"))))
    write_scene("s", 6)
    found, bad = train_here(write_photos("two", "s"))
    fresh, _ = train_here(write_photos("three", "s", tables={"train": {"cache": "another"}}))
    assert not bad
    assert found == fresh != first
    with pytest.raises(ConfigError, match="the images differ"):
        train_here(write_photos("one", "s"))
    after = digest(make_plan(load_train(write_photos("two", "s"))))
    assert before != after == digest(make_plan(load_train(write_photos("two", "s"))))


@pytest.mark.parametrize("aggregator", ["netvlad", "salad"])
def test_a_run_cut_off_goes_on_as_one_that_was_not(
    write_scene: Write, write_photos: Write, train_here: Train, aggregator: str
) -> None:
    """With dropout (salad), patch dropout, tokens drawn, hard negatives, and images that are bad."""
    for name in ("a", "b", "c"):
        write_scene(name, 6, missing=(0, 1, 2, 3, 5) if name == "c" else ())
    tables = {
        "aggregator": {"name": aggregator},
        "train": {"patch_keep_rate": 0.7, "steps": 9},
        "sampling": {"nodes": 2, "subgraphs": 2, "hard_negatives": 1},
        "loss": {"late": 0.5, "late_tokens": 4},
    }
    whole, _ = train_here(write_photos("whole", "a", "b", "c", tables=tables))
    again, _ = train_here(write_photos("again", "a", "b", "c", tables=tables))
    cut = write_photos("cut", "a", "b", "c", tables=tables)
    before, _ = train_here(cut, stop=8)
    assert 6 <= max(before) <= 8
    torch.seed()
    resumed, _ = train_here(cut)
    assert whole == again == resumed
    assert 3 <= len(whole) < 9  # a step whose images are bad is skipped, and counted
    skipped = reported(load_train(cut)).skipped
    assert skipped == 9 - len(whole)


@pytest.mark.parametrize("missing", [(1,), (0, 1)])
@pytest.mark.parametrize("aggregator", ["divlad", "netvlad", "salad"])
def test_a_run_without_two_usable_images_leaves_no_model(
    write_scene: Write, write_photos: Write, train_here: Train, aggregator: str, missing: tuple[int, ...]
) -> None:
    write_scene("s", 2, missing)
    tables = {
        "aggregator": {"name": aggregator},
        "train": {"steps": 2, "project": 8},
        "sampling": {"nodes": 2},
    }
    path = write_photos("run", "s", tables=tables)
    found, bad = train_here(path)
    assert not found
    assert len(bad) == len(missing)
    job = load_train(path)
    assert [entry["step"] for entry in record.read(job.out) if "skipped" in entry] == [1, 2]
    assert not (job.out / "model").exists()
    with pytest.raises(ReaderError, match="none of the 2 steps taught anything"):
        reported(job)


def test_a_batch_norm_of_one_image_uses_what_it_has_gathered(
    write_scene: Write, write_photos: Write, train_here: Train
) -> None:
    """ArcFace learns of two images of any kind; a worker's share may then be of one."""
    from crater_ray_supscene.training.model import built

    write_scene("s", 3)
    tables = {"aggregator": {"name": "divlad"}, "train": {"project": 8}}
    descriptor = built(load_train(write_photos("run", "s", tables=tables)), tail=False).train()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    descriptor(images, None)
    norms = [part for part in descriptor.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert len(norms) == 2
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
    one, _ = descriptor(images[:1], None)
    assert all(norm.training for norm in norms)
    for norm, mean in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.running_mean, mean)
    expected, _ = descriptor.eval()(images[:1], None)
    torch.testing.assert_close(one, expected)


def test_training_without_a_positive_pair_is_refused_before_it_begins(
    write_scene: Write, write_photos: Write
) -> None:
    write_scene("s", 4, overlap=0.0)
    with pytest.raises(ConfigError, match=r"no two of the 4 training images are a positive pair \(their gr"):
        run(load_train(write_photos("run", "s")))
    write_scene("s", 4, overlap=0.2)
    assert len(make_plan(load_train(write_photos("run", "s")))) == 4  # soft weights teach of any overlap
    for loss in ("supcon", "triplet"):
        with pytest.raises(ConfigError, match=r"greatest overlap is 0.2, loss.positive is 0.25"):
            make_plan(load_train(write_photos("run", "s", tables={"loss": {"name": loss}})))
    make_plan(load_train(write_photos("run", "s", tables={"loss": {"name": "arcface"}})))
    table = write_scene("s", 3) / "pairs_gt.csv"
    table.write_text("image_a,image_b,overlap,reg_a,reg_b\n0.png,1.png,0.9,1,0\n0.png,2.png,0,1,1\n")
    with pytest.raises(ConfigError, match="greatest overlap is 0,"):
        make_plan(load_train(write_photos("run", "s")))


def test_an_image_of_two_scenes_is_refused_and_one_held_out_is_not_trained_on(
    write_scene: Write, write_photos: Write, tmp_path: Path
) -> None:
    write_scene("a", 4), write_scene("b", 4)
    with pytest.raises(ReaderError, match=r"a/images/0.png is in two scenes, as a/0.png and as a/0.png"):
        make_plan(load_train(write_photos("run", "a", "b", "a")))
    held = '\n[[held_out.scenes]]\nsource = "pairs"\nroot = "sfm/a"\n'
    plan = make_plan(load_train(write_photos("run", "a", "b", extra=held)))
    assert [plan.images["id"][row].as_py()[0] for row in plan.rows("train").tolist()] == ["b"] * 4
    assert len(plan.rows("held")) == 4
    path = write_photos("run", "a", "b", tables={"held_out": {"disjoint": False}}, extra=held)
    assert len(make_plan(load_train(path)).rows("train")) == 8
    (tmp_path / "sfm" / "other").mkdir()
    (tmp_path / "sfm" / "b").rename(tmp_path / "sfm" / "other" / "a")  # two scenes of one name are two
    plan = make_plan(load_train(write_photos("run", "a", "other/a")))
    assert [len(unit) for unit in plan.units()] == [4, 4]
    assert plan.labels()[1] == 8


def test_whether_a_batch_teaches_is_whether_its_loss_has_a_gradient() -> None:
    random = np.random.default_rng(0)
    kinds: list[dict[str, Any]] = [
        {"name": name, "vector": vector, "late": late}
        for name in ("soft_supcon", "supcon", "triplet", "arcface")
        for vector, late in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    ]
    seen = set()
    for kind in kinds:
        objective = Objective(Terms(margin=3.0, **kind), 6, 8)
        for _ in range(60):
            overlap = random.choice([0.0, 0.1, 0.5], (6, 6), p=[0.8, 0.1, 0.1])
            overlap = np.maximum(np.maximum(overlap, overlap.T), np.eye(6))
            there = random.random(6) < 0.5
            ignored = torch.from_numpy(~(there[:, None] & there[None]) | np.eye(6, dtype=bool))
            labels = torch.from_numpy(random.integers(0, 6, 6))
            generator = torch.Generator().manual_seed(int(random.integers(1000)))
            vectors = torch.randn(6, 8, generator=generator, requires_grad=True)
            tokens = torch.randn(6, 3, 8, generator=generator, requires_grad=True)
            unit = (torch.nn.functional.normalize(x, dim=-1) for x in (vectors, tokens))
            overlaps = torch.from_numpy(overlap.astype(np.float32))
            torch.autograd.backward(
                objective(*unit, overlaps, ignored, labels) + 0 * (vectors.sum() + tokens.sum())
            )
            moved = any(bool(x.grad is not None and x.grad.abs().max() > 1e-7) for x in (vectors, tokens))
            teaches = objective.teaches(overlaps, ignored, labels)
            assert moved == teaches
            seen.add((kind["name"], teaches))
    assert len(seen) == 8


def test_a_loss_that_is_no_number_ends_the_run(write_scene: Write, write_photos: Write) -> None:
    write_scene("s", 3)
    job = load_train(write_photos("run", "s"))
    model = torch.nn.Module()
    model.objective, weight = torch.nn.Module(), torch.nn.Parameter(torch.ones(1))  # type: ignore[assignment]
    model.weight = weight
    optimiser = torch.optim.AdamW([weight], lr=1.0)
    with pytest.raises(CraterRayError, match=r"step 5: the loss is nan and its gradient nan; lower train.lr"):
        _learnt(job, 4, model, optimiser, (weight * float("nan")).sum())  # type: ignore[arg-type]
    assert weight.item() == 1.0
