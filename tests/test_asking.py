"""Options that the others leave without a use are refused by every command, table, request and plugin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from pydantic import ValidationError

from crater_ray.builtin import InstanceTokensOptions
from crater_ray.cli import app, main
from crater_ray.config import NeighboursTable, ServeTable
from crater_ray.errors import QueryError
from crater_ray.filters import mask
from crater_ray.hits import Hits
from crater_ray.jobfile import Table
from crater_ray.options import index_path
from crater_ray.plugins.registry import explain
from crater_ray.query import as_text
from crater_ray.request import SearchRequest, parse_filter
from crater_ray.serve.models import SearchBody
from crater_ray.types import Hit, TokenPair

FIXTURE = Path(__file__).parent / "fixtures" / "index_format_1"


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


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            "--candidates 30",
            "--candidates = 30: mode shortlist-only ranks by one vector an image and has none",
        ),
        ("--explain", "--explain: mode shortlist-only ranks by one vector an image, and no pairs of tokens"),
    ],
)
def test_what_one_vector_leaves_without_a_use_is_refused(
    words: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["query", "index", "--id", "a", "--mode", "shortlist-only", *words.split()])
    assert end.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_table_and_a_request_refuse_them_too() -> None:
    with pytest.raises(ValidationError, match="mode shortlist-only ranks by one vector"):
        NeighboursTable(mode="shortlist-only", candidates=30)
    with pytest.raises(ValidationError, match="no pairs of tokens make up its scores"):
        SearchBody(id="a", mode="shortlist-only", explain=True)
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
        ("query index --id a --crop 0,0,9,9", "--crop is not used: no image is named"),
        ("query index", "name an image file, an item with --id, or a place with --place"),
        ("query index --place 1,2", "--place '1,2': write lat,lon,km or lat,lon,km,body"),
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


def _commands(group: click.Group) -> dict[str, click.Command]:
    """Every command of a group and of the groups in it, by its words."""
    context, found = click.Context(group), {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inside = _commands(command) if isinstance(command, click.Group) else {}
        found |= {name: command, **{f"{name} {below}": one for below, one in inside.items()}}
    return found


@pytest.mark.parametrize("words", ["info", "parts list", "verify", "gc --dry-run", "plan JOB --like"])
def test_a_command_takes_a_job_file_for_its_index(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, there = tmp_path / "job.toml", tmp_path / "index"
    shutil.copytree(FIXTURE, there)  # gc takes a lock in it
    job.write_text(
        f'out = "{there}"\n[reader]\nname = "folder"\nroot = "."\n[backbone]\nname = "timm"\nmodel = "vit"\n'
    )
    printed = []
    for index in (there, job):
        with pytest.raises(SystemExit) as end:
            main([*words.replace("JOB", str(job)).split(), str(index), "--json"])
        assert not end.value.code or words.startswith("plan")  # its index config is another
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]


def test_every_command_that_takes_an_index_takes_a_job_file_and_says_so() -> None:
    takes = {
        words: command
        for words, command in _commands(app).items()
        if any(parameter.name == "index" for parameter in command.params)
    }
    assert {"query", "neighbours", "info", "verify", "compact", "gc", "parts drop", "serve"} <= set(takes)
    for words, command in takes.items():
        (index,) = (parameter for parameter in command.params if parameter.name == "index")
        assert index.metavar == "INDEX|JOB", words
        assert index.type is index_path or words == "serve"  # which takes [serve] of the job too
        assert "job file" in (command.help or "").lower().replace("\n", " "), words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("d=large", "column 'd' holds numbers, not 'large'; a range is min and max, as in --filter"),
        ("n=1,5-20", "column 'n' holds whole numbers, not '5-20'; a range is min and max"),
        ("d=nan", "column 'd' holds numbers, not 'nan'"),
        ("there=perhaps", "column 'there' holds bool, not 'perhaps'"),
        ("body=:9", "column 'body' holds text, so it has no min and max; name values by any_of"),
    ],
)
def test_a_filter_that_does_not_suit_its_column_says_what_does(text: str, why: str) -> None:
    items = pa.table({"d": [1.0], "n": [1], "body": ["moon"], "there": [True]})
    with pytest.raises(QueryError) as told:
        mask(items, [parse_filter(text)], None)
    assert why in str(told.value)


def test_a_text_answer_says_how_many_pairs_it_does_not_show() -> None:
    def text(pairs: int) -> str:
        hit = Hit(1, "a", "a", 0.5, (TokenPair(1, 2, 0.5, 0.05),) * pairs)
        return as_text([("q", Hits([hit]))], explain=True)

    assert "the best 10 of 12 pairs; --json prints all" in text(12)
    assert "pairs" not in text(10)
