"""What crater_ray.testing asks of each kind, and what this plugin promises beyond it."""

from __future__ import annotations

import csv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from crater_ray_template.blocks import Blocks
from crater_ray_template.disks import Disks
from crater_ray_template.grid import Grid
from crater_ray_template.table import Table

from crater_ray.errors import BadImage, ConfigError
from crater_ray.plugins import registry
from crater_ray.testing import check_aggregator, check_backbone, check_consumer, check_plugin, check_reader
from crater_ray.types import TokenShape

torch.set_num_threads(1)


def test_all_of_it_works_as_a_job_would_use_it() -> None:
    check_plugin("crater_ray_template")


def test_the_reader_keeps_its_promises() -> None:
    check_reader(Disks(disks=12, views=2, seed=0, size=64))


def test_the_backbone_keeps_its_promises() -> None:
    check_backbone(Grid(grid=8, image_size=64))


def test_the_aggregator_keeps_its_promises() -> None:
    check_aggregator(Blocks, side=2)


def test_the_consumer_keeps_its_promises(tmp_path: Path) -> None:
    check_consumer(Table(top=2), tmp_path)
    with (tmp_path / "template_table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["rank"] for row in rows} == {"1", "2"}
    assert rows == sorted(rows, key=lambda row: (row["query_id"], row["rank"]))


def test_views_of_one_disk_are_nearest_to_each_other() -> None:
    backbone = Grid(grid=8, image_size=64)
    aggregator = Blocks(backbone.shape, side=2)

    def vectors(reader: Disks) -> np.ndarray:
        images = [backbone.preprocess(reader.load(f"{disk}/0")) for disk in range(12)]
        return aggregator(backbone(torch.stack(images)), "gallery").flatten(1).numpy()

    first, second = (vectors(Disks(disks=12, views=1, seed=seed, size=64)) for seed in (0, 1))
    np.testing.assert_array_equal((first @ second.T).argmax(1), np.arange(12))


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ConfigError, match="no multiple of twice grid"):
        Grid(grid=7, image_size=64)
    with pytest.raises(ConfigError, match="more than the tokens' grid"):
        Blocks(TokenShape(4, (2, 3), 0, False), side=3)
    with pytest.raises(BadImage, match="not disk/view"):
        Disks(disks=1, views=1, seed=0, size=64).load("elsewhere")


def test_it_is_listed_once_it_is_installed() -> None:
    try:
        metadata.distribution("crater-ray-template")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed: pip install -e .")
    rows = [row for row in registry().statuses() if row.distribution == "crater-ray-template"]
    assert [row.status for row in rows] == ["ok"] * 5, rows
