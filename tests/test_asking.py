"""Options that the others leave without a use are refused by every command, table, request and plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crater_ray.builtin import InstanceTokensOptions
from crater_ray.cli import main
from crater_ray.config import NeighboursTable, ServeTable
from crater_ray.jobfile import Table
from crater_ray.plugins.registry import explain
from crater_ray.request import SearchRequest
from crater_ray.serve.models import SearchBody


@pytest.mark.parametrize(
    "words",
    [
        ["query", "index", "--id", "a", "--mode", "exact"],
        ["neighbours", "index", "--out", "n.parquet", "--mode", "exact"],
        ["evaluate", "job.toml"],  # exact by default
    ],
)
def test_candidates_without_a_shortlist_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--candidates", "30"])
    assert end.value.code == 2
    assert "--candidates = 30: mode exact scores every image" in capsys.readouterr().err


def test_a_table_and_a_request_refuse_them_too() -> None:
    with pytest.raises(ValidationError, match="mode exact scores every image") as told:
        NeighboursTable(mode="exact", candidates=30)
    assert explain(told.value, NeighboursTable).startswith("candidates = 30: mode exact")
    with pytest.raises(ValidationError, match="mode exact scores every image"):
        SearchBody(id="a", mode="exact", candidates=30)
    assert NeighboursTable(mode="exact").request().shortlisted is None
    assert (SearchRequest(id="a").shortlisted, SearchRequest(id="a", top=300).shortlisted) == (200, 300)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("query index --id a --device cuda", "--device is not used: an item of the index is encoded already"),
        ("serve index --no-auth --token-file f", "--token-file is not used: --no-auth asks for no token"),
        (
            "serve index --no-auth --address a:1 --metrics-port 9",
            "--metrics-port is not used: the Ray cluster",
        ),
        ("index job.toml --part a", "add --add or --replace"),
        ("bench tokens job.toml --axis codec --grid", "--grid is not used: --axis leaves the grid out"),
        (
            "bench backbones job.toml --model vit --largest 9",
            "--largest is not used: models that --model names",
        ),
    ],
)
def test_a_command_refuses_an_option_that_another_leaves_without_a_use(
    words: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_default_that_is_written_out_is_no_mistake() -> None:
    assert ServeTable(basemap=None, basemap_body=None).refused() == ""
    assert InstanceTokensOptions(temperature=0.02).refused() == ""


@pytest.mark.parametrize(
    ("table", "given", "why"),
    [
        (ServeTable, {"basemap_body": "moon"}, "basemap_body is not used: no basemap is given"),
        (ServeTable, {"basemap_box": (0, 0, 9, 9)}, "basemap_box is not used: no basemap is given"),
        (ServeTable, {"basemap": {"moon": Path("m.png")}, "basemap_body": "moon"}, "a body for each image"),
        (
            InstanceTokensOptions,
            {"temperature": 0.1},
            "temperature is not used: assign = 'residual' has none",
        ),
    ],
)
def test_a_table_or_a_plugins_options_refuse_it_too(
    table: type[Table], given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        table(**given)


def test_what_the_command_line_adds_to_a_job_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        'out = "out"\n[reader]\nname = "folder"\nroot = "images"\n[backbone]\nname = "timm"\nmodel = "vit"\n'
        "[serve]\nbasemap_box = [0.0, 0.0, 9.0, 9.0]\n"
    )
    with pytest.raises(SystemExit) as end:
        main(["serve", str(job), "--no-auth"])
    assert end.value.code == 2
    assert "basemap_box is not used: no basemap is given" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", str(job), "--no-auth", "--basemap", str(tmp_path / "gone.png")])
    assert "gone.png' is no JPEG, PNG or WebP image" in capsys.readouterr().err


def test_weights_of_a_backbone_that_is_not_asked_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench").mkdir()
    words = [
        "bench",
        "backbones",
        str(tmp_path / "bench"),
        "--model",
        "vit",
        "--weights",
        "other=w.safetensors",
    ]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "--weights 'other' are not used: no --model names it" in capsys.readouterr().err
