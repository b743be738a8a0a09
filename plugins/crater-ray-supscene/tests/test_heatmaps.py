"""The sheet of heat maps, from its command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from crater_ray.errors import PluginError, QueryError
from crater_ray_supscene.pictures.command import heatmaps
from crater_ray_supscene.pictures.sheet import strongest
from crater_ray_supscene.training.export import export
from crater_ray_supscene.training.job import load_train
from crater_ray_supscene.training.model import built

torch.set_num_threads(1)


def test_a_sheet_shows_every_image_and_model(
    write_train: Callable[..., Path], hollows: Path, tmp_path: Path
) -> None:
    models = []
    for name, options in (("divlad", "clusters = 4"), ("netvlad", "clusters = 4"), ("salad", "clusters = 8")):
        path = write_train(name)
        made = f'name = "{name}"\n{options}\n'
        path.write_text(path.read_text().replace('name = "divlad"\nclusters = 4\nnorm = "none"\n', made))
        job = load_train(path)
        job.out.mkdir()
        models += ["--model", str(export(job, built(job, tail=True), {"steps": 0}))]
        assert json.loads((job.out / "model" / "aggregator.json").read_text())["aggregator"] == name
    images = [str(hollows / "images" / f"00{number}_0.png") for number in range(2)]
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(heatmaps, [*images, *models, "--clusters", "3", "--out", str(sheet)])
    assert done.exit_code == 0, done.output
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 6 * 190  # two images of three models
    assert pixels.std() > 20
    with pytest.raises(QueryError, match="cannot read the image"):
        CliRunner().invoke(heatmaps, ["none.png", *models[:2], "--out", str(sheet)], catch_exceptions=False)
    with pytest.raises(PluginError, match="model folder"):
        CliRunner().invoke(
            heatmaps, [images[0], "--model", "none", "--out", str(sheet)], catch_exceptions=False
        )
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(QueryError, match="not an image of a known format"):
        CliRunner().invoke(
            heatmaps, [str(tmp_path / "text.png"), *models[:2], "--out", str(sheet)], catch_exceptions=False
        )


def test_the_clusters_drawn_are_those_that_vary() -> None:
    shares = np.array([[0.5, 0.5, 0.5], [0.0, 1.0, 0.0], [0.4, 0.6, 0.5]])
    assert strongest(shares, 2).tolist() == [1, 2]
