"""What `bench tokens` sweeps: the closed sets, one axis at a time, nothing twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from crater_ray.types import TokenShape
from crater_ray_craterbench.sweep import (
    CANDIDATES,
    Choices,
    Configuration,
    choices,
    sweep,
    together,
    unique,
    work,
)

VIT = TokenShape(dim=384, grid=(14, 14), heads=6, cls=True)


@pytest.fixture
def have() -> Choices:
    return choices(VIT, 3000, {})


def test_every_name_of_the_closed_sets_is_swept_at_every_k(have: Choices) -> None:
    assert have.ks == (4, 8, 16, 32, 64, 128, 196)
    axes = sweep(have)
    swept = {(dict(one.options).get("seeds"), dict(one.options).get("k")) for one in axes["selection"]}
    assert len(have.seeds) == 7
    assert {(seeds, k) for seeds in have.seeds for k in have.ks[:-1]} | {(None, None)} == swept
    assert len({one.words()["assign"] for one in axes["assignment"]}) == 4
    assert [one.scoring for one in axes["scoring"]] == list(have.scorings)
    assert [one.codec for one in axes["codec"]] == list(have.codecs)
    assert [one.candidates for one in axes["stages"]] == list(CANDIDATES)
    assert {"cls", "mean", "max", "gem"} <= {one.aggregator for one in axes["pooling"]}


def test_all_tokens_are_one_configuration_whatever_chooses_and_joins(have: Choices) -> None:
    made = {have.instance(196, seeds=seeds, assign=assign) for seeds in have.seeds for assign in have.assigns}
    assert made == {Configuration("all")}
    assert have.instance(196, query_k=64) != Configuration("all")
    every = unique(sweep(have))
    assert max(Counter(every).values()) == 1


def test_dear_configurations_take_fewer_queries_but_not_the_defaults_own_curve(have: Choices) -> None:
    every = unique(sweep(have))
    assert all(work(one, have) > 2 * 64**2 for one in every if one.few)
    assert not any(one.few for one in every if one in [have.instance(k) for k in have.ks[:-1]])
    assert any(one.few for one in every)


def test_the_grid_crosses_selections_and_assignments(have: Choices) -> None:
    grid = unique({"grid": sweep(have, grid=True)["grid"]})
    assert len(grid) == 7 * 4 * 6 + 1


def test_a_key_changes_with_whatever_decides_the_result(have: Choices) -> None:
    default = have.instance(64)
    others = [
        have.instance(32),
        have.instance(64, seeds="norm"),
        have.instance(64, assign="mean"),
        have.instance(64, query_k=16),
        have.instance(64, heads="max"),
        replace(default, scoring="chamfer"),
        replace(default, codec="int8"),
        replace(default, candidates=10),
    ]
    keys = {one.key("tokens") for one in (default, *others)} | {default.key("other tokens")}
    assert len(keys) == len(others) + 2
    assert default.key("tokens") == Configuration(default.aggregator, default.options).key("tokens")


def test_stages_share_the_scoring_of_the_exact_scan(have: Choices) -> None:
    groups = together(unique(sweep(have)))
    stages = next(group for group in groups if have.instance(64) in group)
    assert len(stages) == 1 + len(CANDIDATES)


def test_without_attention_the_seeds_that_need_it_are_left_out_with_the_reason() -> None:
    left_out: dict[str, str] = {}
    have = choices(TokenShape(dim=512, grid=(7, 7), heads=0, cls=False), 100, left_out)
    assert have.seeds[0] == "farthest"
    assert not {"attention", "norm_attention"} & set(have.seeds)
    assert "attention" in left_out["seeds attention"]
    assert "class token" in left_out["cls"]
    assert have.k == 32
    assert [one.candidates for one in sweep(have)["stages"]] == [10, 30, 50]
