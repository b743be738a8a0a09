"""Options that the others leave without a use are refused, in training's tables and by commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crater_ray.cli import main
from crater_ray.errors import ConfigError
from crater_ray_supscene.training.job import load_train


@pytest.mark.parametrize(
    ("table", "given", "why"),
    [
        ("loss", {"margin": 0.3}, "margin is not used: name = 'soft_supcon' has none"),
        ("loss", {"name": "triplet", "scale": 20.0}, "scale is not used: name = 'triplet' has none"),
        ("loss", {"name": "supcon", "gamma": 0.5}, "gamma is not used: name = 'supcon' has none"),
        (
            "loss",
            {"name": "triplet", "temperature": 0.2},
            "temperature is not used: name = 'triplet' has none",
        ),
        (
            "loss",
            {"name": "arcface", "positive": 0.5, "late": 0.0, "late_tokens": 32},
            "positive is not used: name = 'arcface' has none",
        ),
        ("loss", {"late": 0.0, "late_tokens": 8}, "late_tokens is not used: late = 0"),
        ("loss", {"late": 1.0, "vector": 0.0, "temperature": 0.2}, "temperature is not used: vector = 0"),
        ("train", {"full_token_share": 0.5}, "full_token_share is not used: patch_keep_rate = 1"),
        ("train", {"project_norm": "none"}, "project_norm is not used: project is not given"),
        ("train", {"cached": "never", "cache": "here"}, "cache is not used: cached = 'never'"),
        ("held_out", {"cuts": [1, 2]}, "cuts is not used: it counts ranks in"),
    ],
)
def test_a_table_refuses_what_it_does_not_use(
    write_train: Callable[..., Path], table: str, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        load_train(write_train(**{table: given}))


def test_scenes_refuse_what_another_source_reads(write_train: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="measure is not used: source = 'reader' does not read it"):
        load_train(write_train(), ["scenes.0.measure=overlap"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("heatmaps a.png --out s.png --model m --backbone timm", "--backbone is not used: a --model brings"),
        ("heatmaps a.png --out s.png --clusters 3", "--clusters is not used: a backbone alone"),
        ("train job.toml --features-only --json", "--json is not used: --features-only makes no report"),
    ],
)
def test_a_command_refuses_what_it_does_not_use(
    words: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())
