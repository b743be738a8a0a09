"""The list of backbones: every name is one that timm has weights for, and sizes are as timm builds them."""

import pytest
import timm
import torch

from crater_ray_craterbench.paper import rows

SMALL = [row for row in rows() if row.parameters < 12 or row.name in ("ViT-S/16 DINO", "ViT-S/14 DINOv2")]


def test_every_name_is_known_to_timm_and_none_stands_twice() -> None:
    known = set(timm.list_pretrained())
    for row in rows():
        assert (row.timm or row.architecture) in known
        assert (row.timm is None) == (row.architecture is not None)
    assert len({row.name for row in rows()}) == len({row.timm or row.name for row in rows()}) == len(rows())


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_parameters_are_those_of_the_model_without_its_classifier(row) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.timm, num_classes=0)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(row.parameters, abs=0.05)


def test_what_the_paper_says_is_marked() -> None:
    paper = {row.name: (row.pooling, row.paper_map) for row in rows() if row.of_paper}
    assert len(paper) == 12
    assert paper["ViT-B/16 MarsDINO"] == ("cls", 0.553)
    assert paper["VGG-16"] == (None, 0.068)  # its best pooling is not known
    assert all(row.pooling is None for row in rows() if not row.of_paper)
