"""`crater-ray bench`: one command, resumed after a death, against slow formulas."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crater_ray.cli import main
from crater_ray.config import Job
from crater_ray.errors import ConfigError
from crater_ray.evaluation import evaluate
from crater_ray.evaluation.encoded import encoded
from crater_ray.jobs import index as index_job
from crater_ray.request import SearchRequest
from crater_ray_craterbench import backbones, tokens

Make = Callable[..., Job]
Array = np.ndarray[Any, Any]


def lines(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.out / "bench" / "tokens.jsonl").read_text().splitlines()]


def unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def average_precision(scores: Array, right: Array) -> float:
    """By the definition; scores of this test never tie."""
    hits = right[np.argsort(-scores)]
    return float(sum(hits[: n + 1].sum() / (n + 1) for n in np.flatnonzero(hits)) / right.sum())


def test_the_bench_runs_from_one_command_and_goes_on_where_it_died(
    make_job: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job("toy", cluster={"encoders": 1})
    with pytest.raises(SystemExit) as end:
        main(["bench", "tokens", str(job.path), "--json"])
    told, err = capsys.readouterr()
    assert not end.value.code, err
    report = json.loads(told)
    assert report["measured"] == report["configurations"] == len(lines(job))
    assert "minutes" in err
    names = {Path(path).name for path in report["files"]}
    assert names == {"tokens.md", "tokens.csv", "map_by_k.png", "map_by_bytes.png", "two_stages.png"}
    for path in report["files"]:
        if path.endswith(".png"):
            with Image.open(path) as drawn:
                assert drawn.size == (960, 630)

    before = {line["key"]: line for line in lines(job)}
    path = job.out / "bench" / "tokens.jsonl"
    table = (job.out / "bench" / "tokens.csv").read_text()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])  # killed while a line was being written
    kept = path.read_bytes().count(b"\n")
    again = tokens.run(job, quiet=True)
    assert again.measured == len(before) - kept
    after = {line["key"]: line for line in lines(job)}
    assert {key: line["image_map"] for key, line in after.items()} == {
        key: line["image_map"] for key, line in before.items()
    }
    rows = [
        list(csv.DictReader(text.splitlines()))
        for text in (table, (job.out / "bench" / "tokens.csv").read_text())
    ]
    assert [row["image_map"] for row in rows[0]] == [row["image_map"] for row in rows[1]]
    assert tokens.run(job, quiet=True).measured == 0


def test_scores_are_those_of_slow_formulas_and_of_evaluate(job_here: Make) -> None:
    job = job_here("slow", rerank={"k": 6, "codec": "fp16"}, shortlist={"name": "mean"})
    tokens.run(job, quiet=True)
    found = lines(job)
    gallery, queries = encoded(job, quiet=True)
    (images, asked) = (
        np.concatenate([batch.patches.numpy() for _, batch in side.tokens()]) for side in (gallery, queries)
    )
    right = np.array([[q.group == g.group for g in gallery.items] for q in queries.items])

    itself = np.array([[q.id == g.id for g in gallery.items] for q in queries.items])

    def mean_ap(scores: Array) -> float:
        each = zip(scores, right, itself, strict=True)
        return float(np.mean([average_precision(s[~own], r[~own]) for s, r, own in each]))

    every = np.einsum("qad,gbd->qgab", unit(asked), unit(images)).max(3).mean(2)
    pooled = unit(asked.mean(1)) @ unit(images.mean(1)).T
    whole = next(line for line in found if line["aggregator"] == "all")
    mean = next(line for line in found if line["aggregator"] == "mean")
    assert whole["image_map"] == pytest.approx(mean_ap(every), abs=2e-3)  # float16 may swap neighbours
    assert mean["image_map"] == pytest.approx(mean_ap(pooled), abs=2e-3)
    assert whole["bytes"] == 16 * 16 * 2
    assert whole["queries"] == 20

    # K = 8 of the toy's 16 tokens is the default; stages read as many images as they say
    same = job_here("slow", rerank={"k": 8, "codec": "fp16"}, shortlist={"name": "mean"})
    default = next(line for line in found if line["options"] == "k=8 seeds=attention assign=residual")
    staged = next(line for line in found if line["candidates"] == 10 and line["k"] == 8)
    same = same.model_copy(update={"out": same.out.with_name("again")})
    index_job.run(same, quiet=True)
    exact = evaluate.run(same, quiet=True)
    assert default["image_map"] == pytest.approx(exact.means["image_map"], abs=1e-6)
    assert default["hit@1"] == pytest.approx(exact.means["hit@1"], abs=1e-6)
    two = evaluate.run(same, SearchRequest(candidates=10), quiet=True)
    assert staged["image_map"] == pytest.approx(two.means["image_map"], abs=1e-6)
    assert staged["bytes"] == 16 * 2 + 8 * 16 * 2  # an image's own: its vector and its tokens, both float16
    assert staged["bytes"] <= two.bytes_per_image["total"]  # which adds headers, items and what was learnt


def test_queries_are_evenly_spaced_and_counted(job_here: Make) -> None:
    job = job_here("some", cluster={"encoders": 1})
    tokens.run(job, queries=5, quiet=True)
    assert {line["queries"] for line in lines(job)} == {5}
    assert "Queries: 5 of 20" in (job.out / "bench" / "tokens.md").read_text()


def test_an_index_older_than_its_cache_is_left_alone(job_here: Make) -> None:
    job = job_here("old", reader={"items": 10}, queries={"items": 4}, cluster={"encoders": 1})
    index_job.run(job, quiet=True)
    before = sorted(path.name for path in (job.out / "parts").iterdir())
    gallery, queries = encoded(job, quiet=True)
    assert (len(gallery.items), len(queries.items)) == (10, 4)
    assert sorted(path.name for path in (job.out / "parts").iterdir()) == before


def test_bad_images_are_left_out_of_both_sides(job_here: Make) -> None:
    job = job_here("bad", reader={"bad": ["i00003"]}, queries={"bad": ["i00012"]})
    gallery, queries = encoded(job, quiet=True)
    assert "i00003" not in [item.id for item in gallery.items]
    assert "i00012" not in [item.id for item in queries.items]
    places = np.concatenate([where for where, _ in gallery.tokens()])
    np.testing.assert_array_equal(places, np.arange(39))
    some = np.array([2, 3, 20])
    every = np.concatenate([batch.patches.numpy() for _, batch in gallery.tokens()])
    picked = list(gallery.tokens(some))
    np.testing.assert_array_equal(np.concatenate([where for where, _ in picked]), some)
    np.testing.assert_array_equal(np.concatenate([batch.patches.numpy() for _, batch in picked]), every[some])


def test_a_job_whose_readers_do_not_meet_is_an_error(job_here: Make) -> None:
    job = job_here("apart", queries={"step": 1000, "items": 10}, reader={"items": 10})
    with pytest.raises(ConfigError, match="no query"):
        tokens.run(job, quiet=True)
    with pytest.raises(ConfigError, match="queries"):
        tokens.run(job_here("bare").model_copy(update={"queries": None}), quiet=True)


def test_backbones_run_where_weights_can_be_had_and_say_why_where_not(
    job_here: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit2", pretrained=False).state_dict(), tmp_path / "tiny.safetensors")
    job = job_here("sizes", cluster={"encoders": 1})
    arguments = ["bench", "backbones", str(job.path), "--json"]
    for name in ("test_vit2", "ViT-S/16 DINO", "ViT-B/16 MarsDINO"):
        arguments += ["--model", name]
    arguments += ["--weights", f"test_vit2={tmp_path / 'tiny.safetensors'}"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    told, err = capsys.readouterr()
    assert not end.value.code, err
    report = json.loads(told)
    assert report["ran"] == ["fake", "test_vit2"]
    assert "FILE.safetensors" in report["not_available"]["ViT-S/16 DINO"]
    assert "not published" in report["not_available"]["ViT-B/16 MarsDINO"]
    folder = tmp_path / "sizes-backbones"
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= {"bench", "tmp"}  # no tokens stay
    page = (folder / "bench" / "backbones.md").read_text()
    assert "| test_vit2 | " in page
    assert "MarsDINO" in page
    rows = list(csv.DictReader((folder / "bench" / "backbones.csv").read_text().splitlines()))
    assert {row["pooling"] for row in rows if row["backbone"] == "fake"} == {"cls", "mean", "max", "gem"}
    with Image.open(folder / "bench" / "size_map.png") as drawn:
        assert drawn.size == (960, 630)
    again = backbones.run(
        job, models=["test_vit2"], weights={"test_vit2": tmp_path / "tiny.safetensors"}, quiet=True
    )
    assert again.ran == ("fake", "test_vit2")
    assert len((folder / "bench" / "backbones.jsonl").read_text().splitlines()) == len(rows)
