"""Every TOML block of a page is a job, a training job, or a piece of one, that crater-ray takes."""

from __future__ import annotations

import re
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from crater_ray.config import Job, load_job
from crater_ray.plugins import registry

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from blocks import Block, blocks, commands, spans

TOML = [block for block in blocks("toml") if block.page.parent.name != "template"]  # tests/plugins tries that
JOB = (
    'out = "index"\n[reader]\nname = "folder"\nroot = "photos"\n'
    '[backbone]\nname = "timm"\nmodel = "vit_tiny"\n'
)
TRAIN = (
    'out = "run"\n[backbone]\nname = "timm"\nmodel = "vit_tiny"\n[aggregator]\nname = "divlad"\n'
    '[[scenes]]\nsource = "pairs"\nroot = "sfm"\nnames = ["one"]\n'
)
TRAINING = {"scenes", "train", "loss", "sampling", "held_out", "aggregator"}
OPTION = re.compile(r"\[(?P<table>[a-z_.]+)\] (?P<option>[a-z_]+)(?: = .*)?")


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_block_is_a_job_or_a_piece_of_one(block: Block, tmp_path: Path) -> None:
    given = tomllib.loads(block.text)
    is_training = bool(TRAINING & given.keys())
    whole = {"out", "backbone"} <= given.keys()
    if base := given.get("base"):
        (tmp_path / base).write_text(TRAIN if is_training else JOB)
    file = tmp_path / "page.toml"
    if whole or base:
        file.write_text(block.text)
    else:  # its tables stand in place of a small job's
        (tmp_path / "whole.toml").write_text(TRAIN if is_training else JOB)
        rest = tomllib.loads(TRAIN if is_training else JOB)
        kept = {table: value for table, value in rest.items() if table not in given}
        file.write_text(_written(kept) + "\n" + block.text)
    if is_training:
        pytest.importorskip("crater_ray_supscene.training.job").load_train(file)
    else:
        load_job(file)


def _written(tables: dict[str, Any]) -> str:
    """TOML of a flat job, plain values first."""
    lines = [f'{key} = "{value}"' for key, value in tables.items() if isinstance(value, str)]
    for table, values in tables.items():
        for entry in values if isinstance(values, list) else [values] if isinstance(values, dict) else []:
            lines.append(f"[[{table}]]" if isinstance(values, list) else f"[{table}]")
            lines += [f"{key} = {value!r}" for key, value in entry.items()]
    return "\n".join(lines)


def options(table: str) -> set[str]:
    """What may stand in this table of a job: its own fields, and those of the plugins that it may name."""
    first, _, name = table.partition(".")
    found = registry()
    if first == "consume":
        kinds = {"consumer": [name]}
        own: set[str] = set()
    else:
        field = Job.model_fields.get(first)
        if field is None:
            return set()
        model = next(kind for kind in (*get_args(field.annotation), field.annotation) if kind is not None)
        own = set(model.model_fields)
        kind = {"reader": "reader", "queries": "reader", "backbone": "backbone"}.get(first, "aggregator")
        kinds = {kind: list(found.specs(kind))} if "name" in own else {}
    return own | {
        option
        for kind, names in kinds.items()
        for each in names
        for option in found.specs(kind)[each].options.model_fields
    }


def training(table: str) -> set[str]:
    """The same of a training job."""
    job = pytest.importorskip("crater_ray_supscene.training.job").TrainJob
    annotation = job.model_fields[table].annotation if table in job.model_fields else None
    return set().union(*(getattr(kind, "model_fields", ()) for kind in (annotation, *get_args(annotation))))


def test_options_within_the_text_are_options() -> None:
    wrong = []
    for span in spans():
        named = OPTION.fullmatch(span.text)
        if named and named["option"] not in options(named["table"]) | training(named["table"]):
            wrong.append(f"{span}: {span.text}")
    assert not wrong, "\n".join(wrong)


def test_set_replaces_options_that_there_are() -> None:
    wrong = []
    for block in blocks("sh", "console", ""):
        for words in commands(block):
            if words[0].endswith("crater-ray") and words[1] not in {"train", "mosaic-bench"}:
                for option, value in pairwise(words):
                    path = value.partition("=")[0].split(".")
                    if option == "--set" and path != ["out"] and path[-1] not in options(".".join(path[:-1])):
                        wrong.append(f"{block}: --set {value}")
    assert not wrong, "\n".join(wrong)
