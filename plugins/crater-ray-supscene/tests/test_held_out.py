"""What is measured of a model, against its vectors and overlaps taken by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray.errors import ConfigError
from crater_ray.evaluation import metrics
from crater_ray.types import Item
from crater_ray_supscene.training import listing
from crater_ray_supscene.training import plan as plan_module
from crater_ray_supscene.training.frozen_features import DecodedImages
from crater_ray_supscene.training.held_out import measure, wanted
from crater_ray_supscene.training.job import HeldOutTable, ScenesTable, TrainJob, load_train
from crater_ray_supscene.training.model import Descriptor, built
from crater_ray_supscene.training.plan import TrainingPlan, digest, make_plan

torch.set_num_threads(1)


def described(plan: TrainingPlan, descriptor: Descriptor, rows: np.ndarray) -> np.ndarray:
    inputs, _ = DecodedImages(plan, descriptor.backbone).inputs(rows.tolist())
    with torch.inference_mode():
        return descriptor.described(inputs, None)[0].numpy()


def ready(path: Path) -> tuple[TrainJob, TrainingPlan, Descriptor, dict[str, float]]:
    job = load_train(path)
    plan, descriptor = make_plan(job), built(job, tail=False).train()
    found = measure(job, plan, descriptor, DecodedImages(plan, descriptor.backbone))
    assert descriptor.training  # as it was
    return job, plan, descriptor.eval(), found


def test_queries_are_scored_by_their_own_group(write_train: Callable[..., Path]) -> None:
    _, plan, descriptor, found = ready(write_train(train={"project": 8}))
    queries, gallery = plan.rows("query:any"), plan.rows("gallery")
    groups = np.array(plan.images["group"].to_pylist())
    scores = described(plan, descriptor, queries) @ described(plan, descriptor, gallery).T
    average, first = [], []
    for query, row in zip(queries, scores, strict=True):
        hits = groups[gallery[np.argsort(-row, kind="stable")]] == groups[query]
        ranks = np.flatnonzero(hits) + 1
        average.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        first.append(hits[0])
    assert found["any mAP"] == pytest.approx(np.mean(average), abs=1e-6)
    assert found["any hit@1"] == pytest.approx(np.mean(first))
    assert 0 < found["any late mAP"] <= 1


def test_queries_are_scored_by_every_group_that_they_name(write_train: Callable[..., Path]) -> None:
    """A query that names co-visible groups, its own or not, against a loop over ranks."""
    job = load_train(write_train())
    plan, descriptor = make_plan(job), built(job, tail=False)
    queries, gallery = plan.rows("query:any"), plan.rows("gallery")
    groups = plan.images["group"].to_pylist()
    named = plan.images["relevant"].to_pylist()
    assert not any(named)
    random = np.random.default_rng(0)
    for row in queries.tolist():
        named[row] = random.choice([*sorted(set(groups)), "elsewhere"], random.integers(0, 4), False).tolist()
    images = plan.images.set_column(
        plan.images.schema.get_field_index("relevant"), plan.images.schema.field("relevant"), [named]
    )
    assert digest(TrainingPlan(plan.readers, images, plan.graph)) != digest(plan)
    plan = TrainingPlan(plan.readers, images, plan.graph)
    found = measure(job, plan, descriptor, DecodedImages(plan, descriptor.backbone))
    scores = described(plan, descriptor, queries) @ described(plan, descriptor, gallery).T
    average, first = [], []
    for query, row in zip(queries.tolist(), scores, strict=True):
        right = [groups[at] in (named[query] or [groups[query]]) for at in gallery.tolist()]
        if any(right):
            hits = [right[at] for at in np.argsort(-row, kind="stable")]
            ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
            average.append(sum(nth / rank for nth, rank in enumerate(ranks, 1)) / sum(right))
            first.append(hits[0])
    assert 0 < len(average) < len(queries)
    assert found["any mAP"] == pytest.approx(np.mean(average), abs=1e-6)
    assert found["any hit@1"] == pytest.approx(np.mean(first))


def test_a_query_in_the_gallery_is_no_answer_to_itself(
    write_train: Callable[..., Path], hollows: Path
) -> None:
    """By the id of one reader, and by pixels under another's: the same numbers, and not those of a copy."""
    gallery = hollows / "gallery.csv"
    again = hollows / "again.csv"
    again.write_text(gallery.read_text().replace("\n0", "\nother 0"))  # other ids, the same files
    found = []
    for name in (gallery, again):
        table = {"held_out.queries.any": {"name": "manifest", "path": str(name)}}
        _, plan, descriptor, numbers = ready(write_train(name.stem, **table))
        found.append({key: numbers[key] for key in ("any mAP", "any hit@1")})
    assert found[0] == pytest.approx(found[1])
    rows = plan.rows("gallery")
    groups = np.array(plan.images["group"].to_pylist())[rows]
    scores = described(plan, descriptor, rows) @ described(plan, descriptor, rows).T
    np.fill_diagonal(scores, -np.inf)
    first = groups[scores.argmax(1)] == groups
    assert found[0]["any hit@1"] == pytest.approx(first.mean())


def test_queries_that_only_themselves_would_answer_are_refused(
    write_train: Callable[..., Path], tmp_path: Path, hollows: Path
) -> None:
    lines = (hollows / "gallery.csv").read_text().splitlines()
    one_each = {line.split(",")[2]: line for line in lines[1:]}
    alone = hollows / "alone.csv"
    alone.write_text("\n".join([lines[0], *one_each.values()]) + "\n")
    table = {"name": "manifest", "path": str(alone)}
    job = load_train(write_train(**{"held_out.gallery": table, "held_out.queries.any": table}))
    with pytest.raises(ConfigError, match=r"no query of held_out.queries.any has .* gallery but itself"):
        make_plan(job)


def test_what_a_reader_calls_relevant_reaches_the_plan(
    write_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = listing.items_of

    def naming(ref: Any) -> list[Item]:
        gains = {"object-025": 1.0, "object-024": 0.5, "object-026": 0.0}
        return [replace(item, relevant=gains) if item.id.endswith("3.png") else item for item in items(ref)]

    monkeypatch.setattr(plan_module, "items_of", naming)
    plan = make_plan(load_train(write_train()))
    queries, gallery = plan.rows("query:any"), plan.rows("gallery")
    assert plan.images["relevant"][int(queries[0])].as_py() == ["object-024", "object-025"]
    groups = np.array(plan.images["group"].to_pylist(), object)[gallery]
    expected = np.isin(groups, ["object-024", "object-025"])
    np.testing.assert_array_equal(plan.relevant(queries, gallery), np.tile(expected, (len(queries), 1)))
    monkeypatch.setattr(
        plan_module, "items_of", lambda ref: [replace(i, relevant={"none": 1.0}) for i in items(ref)]
    )
    with pytest.raises(ConfigError, match=r"no query of held_out.queries.any has a relevant image"):
        make_plan(load_train(write_train()))


def test_the_images_of_scenes_ask_for_one_another(
    write_train: Callable[..., Path], hollows: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "scene"
    (scene / "images").mkdir(parents=True)
    names = [path.name for path in sorted((hollows / "images").iterdir())[:8]]
    lines = ["image_a,image_b,overlap,reg_a,reg_b"]
    for at, name in enumerate(names):
        shutil.copy(hollows / "images" / name, scene / "images")
        for other in names[at + 1 :]:
            overlap = 0.9 if name[:3] == other[:3] else 0.1
            lines.append(f"{name},{other},{overlap},1,{int(other != names[-1])}")
    (scene / "pairs_gt.csv").write_text("\n".join(lines) + "\n")
    path = write_train()
    text = path.read_text().split("[held_out]")[0] + "[held_out]\ntokens = 0\ncuts = [2]\n"
    told = path.read_text()
    text += '[[held_out.scenes]]\nsource = "pairs"\nroot = "scene"\n'
    path.write_text(text + told[told.index("\n[[scenes]]") :])
    job, plan, descriptor, found = ready(path)
    rows = plan.rows("held")
    vectors = described(plan, descriptor, rows)
    gains = plan.graph.block(rows)
    excluded = np.eye(8, dtype=bool)
    excluded[-1] = excluded[:, -1] = True  # the last image is in no model: nobody knows what it overlaps
    gains[excluded] = 0
    order = metrics.ranking(vectors @ vectors.T, excluded)
    expected = metrics.overlap_summary(order, gains, job.loss.positive, (2,))
    assert found == pytest.approx({f"scenes {name}": value for name, value in expected.items()})


def test_it_is_measured_last_and_as_often_as_asked() -> None:
    def steps(every: int) -> list[int]:
        table = HeldOutTable(every=every, scenes=(ScenesTable(source="pairs", root=Path("scenes")),))
        return [step for step in range(21) if wanted(table, step, 20)]

    assert steps(10) == [0, 10, 20]
    assert steps(15) == [0, 15, 20]
    assert steps(100) == [20]
    assert steps(0) == []
    assert not wanted(HeldOutTable(), 20, 20)
