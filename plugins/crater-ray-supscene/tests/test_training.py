"""The parts of training, each against what it promises."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from crater_ray.errors import ConfigError, CraterRayError, ReaderError
from crater_ray.images import pixels
from crater_ray.types import Item
from crater_ray_supscene.losses.objective import Objective, Terms
from crater_ray_supscene.overlap.footprints import footprint_edges, meeting
from crater_ray_supscene.training import checkpoint, listing, record
from crater_ray_supscene.training.batch import Batch, Model
from crater_ray_supscene.training.frozen_features import CachedFeatures, DecodedImages, fill, shards
from crater_ray_supscene.training.held_out import late_scores
from crater_ray_supscene.training.job import TrainTable, load_train
from crater_ray_supscene.training.loop import rate
from crater_ray_supscene.training.model import as_frozen_part, built, built_backbone, frozen_digest
from crater_ray_supscene.training.pictures import Pictures
from crater_ray_supscene.training.plan import digest, make_plan, read_plan, write_plan
from crater_ray_supscene.training.similarity_buffer import SimilarityBuffer

torch.set_num_threads(1)
Write = Callable[..., Path]
DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
MOON = DATA / "moon"


def test_a_plan_lists_everything_and_comes_back_from_its_folder(write_train: Write, tmp_path: Path) -> None:
    plan = make_plan(load_train(write_train()))
    assert {role: len(plan.rows(role)) for role in plan.roles()} == {
        "train": 96,
        "gallery": 24,
        "query:any": 8,
    }
    assert [len(unit) for unit in plan.units()] == [4] * 24
    rows = np.concatenate(plan.units()[:2])
    np.testing.assert_array_equal(plan.graph.block(rows), np.kron(np.eye(2), np.ones((4, 4))))
    labels, classes = plan.labels()
    assert classes == 24
    assert (labels[plan.rows("gallery")] == -1).all()
    told = write_plan(plan, tmp_path / "plan")
    assert told == digest(read_plan(tmp_path / "plan")) == digest(make_plan(load_train(write_train())))
    (tmp_path / "plan" / "images.parquet").write_bytes(b"")
    with pytest.raises(ReaderError, match="run the job again"):
        read_plan(tmp_path / "plan")


def test_a_group_that_two_readers_name_is_one(write_train: Write) -> None:
    path = write_train()
    text = path.read_text()
    path.write_text(text + text[text.index("[[scenes]]") :])
    plan = make_plan(load_train(path))
    assert [len(unit) for unit in plan.units()] == [8] * 24
    rows = np.concatenate(plan.units()[:2])
    np.testing.assert_array_equal(plan.graph.block(rows), np.kron(np.eye(2), np.ones((8, 8))))
    assert plan.labels()[1] == 24


class Relevant:
    """A reader whose view names co-visible groups, one of them listed by another reader alone."""

    columns = pa.schema([])

    def __init__(self, group: str, relevant: dict[str, float]) -> None:
        self._items = [
            Item(f"{group}{n}", group, f"{n}.png", relevant=relevant if n == 0 else {}) for n in (0, 1)
        ]

    def parts(self) -> list[str]:
        return ["part"]

    def read(self, part: str) -> list[Item]:
        return self._items


def test_co_visible_groups_are_no_negatives(write_train: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_train()
    text = path.read_text()
    scene = text[text.index("[[scenes]]") :]
    path.write_text(text[: text.index("[[scenes]]")] + scene * 3)
    readers = iter(
        (
            Relevant("a", {"a": 1.0, "c": 0.5, "x": 1.0, "b": 0.0}),
            Relevant("b", {}),
            Relevant("c", {"a": 2.0}),
        )
    )
    monkeypatch.setattr(listing, "items_of", lambda ref: [i for r in [next(readers)] for i in r.read("part")])
    plan = make_plan(load_train(path))
    rows = plan.rows("train")
    assert plan.images["id"].to_pylist()[:6] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    wanted = np.kron(np.eye(3), np.ones((2, 2)))
    for a, c, gain in ((0, 4, 1.0), (0, 5, 0.5), (1, 4, 1.0)):
        wanted[a, c] = wanted[c, a] = gain
    np.testing.assert_array_equal(plan.graph.block(rows), wanted)


def test_scenes_of_files_keep_overlaps_and_what_nobody_knows(write_train: Write, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "pairs_gt.csv").write_text(
            "image_a,image_b,overlap,reg_a,reg_b\na.jpg,b.jpg,0.5,1,1\na.jpg,c.jpg,0,1,0\nb.jpg,c.jpg,0,1,0\n"
        )
    path = write_train()
    text = path.read_text()
    path.write_text(
        text[: text.index("[[scenes]]")]
        + '[[scenes]]\nsource = "pairs"\nroot = "."\nnames = ["one", "two"]\n'
    )
    plan = make_plan(load_train(path))
    rows = plan.rows("train")
    assert plan.images["id"].to_pylist()[:4] == ["one/a.jpg", "one/b.jpg", "one/c.jpg", "two/a.jpg"]
    one = [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(plan.graph.block(rows), np.kron(np.eye(2), one))
    unknown = np.kron(np.eye(2), [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(plan.graph.unknown_block(rows), unknown.astype(bool))


def test_views_whose_circles_meet_are_found() -> None:
    views = np.array([[0.0, 0.0, 0.1], [0.0, 20.0, 0.1], [60.0, 0.0, 0.3]])
    reach = math.degrees(math.asin(0.1 * math.sqrt(2)))
    assert meeting(views, np.array([[0.0, 2 * reach - 0.01, 0.1]])).tolist() == [True, True, False]
    assert meeting(views, np.array([[-2 * reach - 0.01, 0.0, 0.1]])).tolist() == [False, False, False]


def test_a_job_that_does_not_hold_says_so(write_train: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        load_train(write_train(train={"step": 3}))
    with pytest.raises(ConfigError, match="no multiple of the 3 workers"):
        load_train(write_train(cluster={"workers": 3}))
    with pytest.raises(ConfigError, match="both 0"):
        load_train(write_train(loss={"vector": 0.0, "late": 0.0, "late_tokens": 32}))
    with pytest.raises(ConfigError, match="cannot read the job file"):
        load_train(tmp_path / "none.toml")
    job = load_train(
        write_train(aggregator={"name": "mean"}), ["sampling.nodes=7", "scenes.0.least_images=3"]
    )
    assert job.sampling.nodes == 7
    assert job.scenes[0].least_images == 3
    with pytest.raises(ConfigError, match="write it as"):
        load_train(write_train(), ["sampling"])
    path = write_train()
    plain = 'name = "divlad"\nclusters = 4\nnorm = "none"\n'
    path.write_text(path.read_text().replace(plain, 'name = "mean"\n'))
    with pytest.raises(ConfigError, match="has nothing to train"):
        built(load_train(path), tail=False)


def test_frozen_features_and_the_trained_blocks_are_the_whole_backbone(
    write_train: Write, tmp_path: Path
) -> None:
    job = load_train(write_train(train={"blocks": 2}))
    plan = make_plan(job)
    backbone = built_backbone(job)
    every = shards(plan, tmp_path / "cache", backbone.digest, 2, "fp32")
    (tmp_path / "cache").mkdir()
    pictures, frozen = Pictures(plan, built_backbone(job)), as_frozen_part(built_backbone(job), 2)
    for shard in every:
        assert not shard.done
        fill(shard, pictures, frozen, (3, 64, 64), "fp32")
        assert shard.done
    rows = [5, 0, 100]
    hidden, usable = CachedFeatures(every).inputs(rows)
    images, fresh = DecodedImages(plan, backbone).inputs(rows)
    assert usable == fresh == [True] * 3
    whole, tail = built(job, tail=False), built(job, tail=True)
    with torch.inference_mode():
        expected, found = whole.tokens(images), tail.tokens(hidden)
    for name in ("patches", "cls", "attention"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=5e-3, rtol=5e-3)
    free = {
        name.split(".blocks.")[1][:2]
        for name, w in whole.named_parameters()
        if w.requires_grad and ".blocks." in name
    }
    assert free == {"10", "11"}


def test_a_bad_image_is_left_out_of_its_batch(write_train: Write, hollows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(hollows, copy)
    (copy / "images" / "000_1.png").write_bytes(b"no image")
    path = write_train()
    path.write_text(path.read_text().replace(str(hollows / "train.csv"), str(copy / "train.csv")))
    job = load_train(path)
    plan, descriptor = make_plan(job), built(job, tail=False)
    store = DecodedImages(plan, descriptor.backbone)
    labels = torch.from_numpy(plan.labels()[0])
    objective = Objective(Terms(), plan.labels()[1], descriptor.aggregator.dim)
    units = plan.units()
    assert "000_1.png" in plan.images["id"].to_pylist()[1]

    def loss(rows: list[list[int]]) -> float:
        batch = Batch(plan, np.array(rows), labels, job, 0, torch.device("cpu"), descriptor)
        with torch.inference_mode():
            found = batch.loss(descriptor, Model(descriptor, objective, None), batch.inputs(store))
        assert found is not None
        return found.item()

    first, second = units[0].tolist(), units[1].tolist()
    assert loss([first, second]) == pytest.approx(loss([[first[0], -1, *first[2:]], second]), abs=1e-6)
    pictures = Pictures(plan, descriptor.backbone)
    assert pictures.load([1])[0].startswith("not an image of a known format (")


def test_training_sees_an_image_as_an_index_does(write_train: Write, hollows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(hollows, copy)
    deep = np.random.default_rng(1).integers(1000, 3000, (64, 64)).astype(np.uint16)  # of a 12-bit camera
    Image.fromarray(deep).save(copy / "images" / "000_1.png")
    path = write_train()
    path.write_text(path.read_text().replace(str(hollows / "train.csv"), str(copy / "train.csv")))
    job = load_train(path)
    plan, backbone = make_plan(job), built(job, tail=False).backbone
    ready = Pictures(plan, backbone).load([1])[0]
    seen = pixels((copy / "images" / "000_1.png").read_bytes(), 10_000)
    assert seen.std() > 50
    torch.testing.assert_close(ready, backbone.preprocess(seen))


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    table = TrainTable(steps=100, lr=1.0, warmup=0.1, last_lr=0.001)
    rates = [rate(step, table) for step in range(100)]
    np.testing.assert_allclose(rates[:10], 0.01 + 0.99 * np.arange(1, 11) / 10)
    for step in range(10, 100):
        through = (step - 10) / 90
        assert rates[step] == pytest.approx(0.001 + 0.999 * (1 + math.cos(math.pi * through)) / 2)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(write_train: Write, tmp_path: Path) -> None:
    job = load_train(write_train())

    def fresh() -> tuple[Model, torch.optim.Optimizer]:
        model = Model(
            built(job, tail=True), Objective(Terms(), 24, 4 * 192), SimilarityBuffer([np.arange(3)], 4 * 192)
        )
        free = [weight for weight in model.parameters() if weight.requires_grad]
        return model, torch.optim.AdamW(free, lr=1e-3)

    def steps(model: Model, optimiser: torch.optim.Optimizer, numbers: range) -> list[float]:
        losses = []
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            vectors, _ = model.descriptor(torch.randn(3, 17, 192, generator=generator), None)
            loss = (vectors[0] * vectors[1]).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            losses.append(loss.item())
        return losses

    model, optimiser = fresh()
    steps(model, optimiser, range(3))
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / "kept", step, model, optimiser, {"plan": "x", "taught": 3})
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["00000002", "00000003"]
    uninterrupted = steps(model, optimiser, range(3, 6))
    again, other = fresh()
    found = checkpoint.latest(tmp_path / "kept")
    assert found is not None
    assert checkpoint.load(found, again, other) == {"plan": "x", "taught": 3, "step": 3}
    assert steps(again, other, range(3, 6)) == uninterrupted
    (found / checkpoint.STATE).write_bytes(b"torn")
    with pytest.raises(CraterRayError, match="is damaged"):
        checkpoint.load(found, again, other)


def test_the_log_forgets_what_is_done_again(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        record.append(tmp_path, {"step": step, "loss": 4.0 - step, "lr": 0.1})
    record.append(tmp_path, {"step": 3, "held_out": {"any mAP": 0.5}})
    with (tmp_path / record.LOG).open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    assert len(record.read(tmp_path)) == 4
    assert record.draw_curves(tmp_path).stat().st_size > 10_000
    record.rewind(tmp_path, 2)
    assert [json.loads(line)["step"] for line in (tmp_path / record.LOG).read_text().splitlines()] == [1, 2]


def test_a_run_stops_where_a_later_one_has_taken_over(tmp_path: Path) -> None:
    (tmp_path / record.RUN).write_text("first")
    record.check_ours(tmp_path, "first")
    (tmp_path / record.RUN).write_text("second")
    with pytest.raises(CraterRayError, match="another run has taken over"):
        record.check_ours(tmp_path, "first")


def test_late_scores_are_means_of_best_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (
        torch.nn.functional.normalize(torch.randn(count, 4, 8, generator=generator), dim=2)
        for count in (11, 5)
    )
    expected = np.einsum("qid,njd->qnij", queries, gallery).max(3).mean(2)
    np.testing.assert_allclose(late_scores(queries.half(), gallery.half()), expected, atol=0.02)


@pytest.mark.real
def test_views_of_the_moon_overlap_by_footprint_and_keep_off_held_out_ground(tmp_path: Path) -> None:
    if not MOON.is_dir():
        pytest.skip(f"{MOON} is absent; set CRATER_RAY_DATA")
    pytest.importorskip("crater_ray_mosaic")
    reader = (
        'name = "mosaic"\nkind = "dem"\nviews = "query"\nco_visible = false\nmin_diameter_km = 20.0\n'
        f'raster = "{MOON / "moon_gld100_64ppd_50s50n.tif"}"\n'
        f'catalogue = "{MOON / "moon_craters_head_povilaitis.csv"}"\npreset = "head_povilaitis"\n'
        "max_diameter_km = 60.0\nquery_rotation = 180.0\n"
    )
    path = tmp_path / "moon.toml"
    path.write_text(
        'out = "run"\n[backbone]\nname = "dinov2_offline"\n'
        '[[scenes]]\nsource = "reader"\noverlap = "footprint"\n'
        f"[scenes.reader]\n{reader}queries_per_crater = 3\nbox = [0.0, -20.0, 40.0, 20.0]\n"
        '[[held_out.scenes]]\nsource = "reader"\noverlap = "footprint"\n'
        f"[held_out.scenes.reader]\n{reader}queries_per_crater = 2\nbox = [20.0, -20.0, 30.0, 20.0]\n"
    )
    plan = make_plan(load_train(path))
    train, held = plan.rows("train"), plan.rows("held")
    assert min(len(train), len(held)) > 20
    assert len(plan.units()) == 1  # a planet is one scene
    poses = [dict(parse_qsl(uri)) for uri in plan.images["uri"].to_pylist()]
    lat, lon, half = (
        np.array([float(pose[key]) for pose in poses]) for key in ("lat", "lon", "half_width_km")
    )
    turn = np.array([float(pose.get("rot", 0)) for pose in poses])
    everything = footprint_edges(lat, lon, half / 1737.4, turn)
    crossing = (everything.rows < len(train)) != (everything.columns < len(train))
    assert not crossing.any()
    assert len(everything.rows) == plan.graph.overlap.nnz // 2
    groups = np.array(plan.images["group"].to_pylist())
    same = groups[train][:, None] == groups[train][None]
    assert plan.graph.block(train)[same].min() > 0.4  # the views of one crater share its ground


def test_the_readme_s_job_and_the_recipe_are_jobs(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1]
    text = (folder / "README.md").read_text(encoding="utf-8")
    (job,) = re.findall(r'```toml\n(out = "runs/dunes".*?)```', text, re.DOTALL)
    (tmp_path / "dunes.toml").write_text(job)
    loaded = load_train(tmp_path / "dunes.toml")
    assert [table.names for table in loaded.held_out.scenes] == [("boruszyn",)]
    loaded.backbone_ref(), loaded.aggregator_ref()
    recipes = {path.stem: load_train(path) for path in (folder / "recipes").glob("*.toml")}
    assert set(recipes) == {"moon", "moon_camera", "optical", "optical_wac", "photos"}
    moon, photos = recipes["moon"], recipes["photos"]
    weights = Path(recipes["optical"].backbone_ref().options["path"])
    assert weights.resolve() == (moon.out / "model").resolve()
    for name in ("moon_camera", "optical"):
        assert recipes[name].train.blocks == moon.train.blocks  # they share frozen features
    assert len(recipes["optical_wac"].scenes) == 3
    assert photos.aggregator_ref().name == "divlad"
    assert (moon.train.blocks, moon.sampling.subgraphs * moon.sampling.nodes) == (6, 126)


def test_models_that_differ_only_in_trained_blocks_share_frozen_features(write_train: Write) -> None:
    backbone = built(load_train(write_train()), tail=False).backbone
    first, other = frozen_digest(backbone, 2), frozen_digest(backbone, 1)
    assert first != other
    with torch.no_grad():
        backbone.model.blocks[-2].attn.qkv.weight.add_(1.0)
        backbone.model.norm.weight.add_(1.0)
    assert frozen_digest(backbone, 2) == first
    assert frozen_digest(backbone, 1) != other
    with torch.no_grad():
        backbone.model.blocks[-3].attn.qkv.weight.add_(1.0)
    assert frozen_digest(backbone, 2) != first
