"""A job file: what it may say, and what is answered when it says something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crater_ray.config import Job, load_job
from crater_ray.errors import ConfigError, PluginError
from crater_ray.jobfile import read
from crater_ray.plugins import Options

SMALL = """
out = "moon"
[reader]
name = "folder"
root = "images"
[backbone]
name = "timm"
model = "vit_small_patch16_224"
"""


def job(tmp_path: Path, text: str = SMALL, *overrides: str) -> Job:
    path = tmp_path / "moon.toml"
    path.write_text(text)
    return load_job(path, overrides)


def test_the_small_job_has_the_measured_defaults(tmp_path: Path) -> None:
    small = job(tmp_path)
    assert (small.shortlist.name, small.shortlist.index) == ("cls", "auto")
    assert (small.rerank.codec, small.rerank.scoring) == ("int4", "maxsim")
    assert small.rerank_ref().name == "whitened_tokens"
    assert job(tmp_path, SMALL, "rerank.scoring=chamfer").rerank.codec == "int4"
    assert job(tmp_path, SMALL, "rerank.codec=int2").rerank.codec == "int2"
    assert job(tmp_path, SMALL, "rerank.name=instance_tokens").rerank.codec == "int8"
    assert (small.backbone.batch, small.backbone.precision) == (8, "bf16")


def test_paths_are_against_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = job(tmp_path, SMALL + 'cache = "~/cache"\n[serve]\nbasemap = "../moon.jpg"\n')
    assert found.out == tmp_path / "moon"
    assert found.reader_ref().options["root"] == str(tmp_path / "images")
    assert found.backbone.cache == Path("/home/somebody/cache")
    assert found.serve.basemap == tmp_path / ".." / "moon.jpg"


def test_a_table_s_own_words_are_not_the_plugin_s(tmp_path: Path) -> None:
    found = job(tmp_path, SMALL + '[rerank]\nname = "topk"\nk = 16\ncodec = "fp16"\n')
    assert found.rerank_ref().options == {"k": 16, "heads": "mean"}
    assert found.rerank.codec == "fp16"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("indx.seed=3", r"moon.toml: unknown option 'indx'; did you mean 'index'\?"),
        (
            "index.sede=3",
            r"unknown option 'index.sede'; did you mean 'seed'\? known: fit_sample, seed, max_pixels$",
        ),
        ("path=/x", "unknown option 'path'"),
        ("index.fit_sample=0", r"index.fit_sample: input should be greater than or equal to 1 \(got 0\)"),
        ("rerank.codec=int5", r"rerank.codec: input should be 'int8', .* \(got 'int5'\)"),
        (
            "rerank.ofoptions.k=3",
            r"\[rerank\] in moon.toml 'whitened_tokens': unknown option 'ofoptions'; did you mean "
            r"'of_options'\? known: of, of_options, dim, power, name, codec, scoring",
        ),
        ("backbone.bacth=3", r"unknown option 'bacth'; did you mean 'batch'\?"),
        ("cluster.encoder=1", r"unknown option 'cluster.encoder'; did you mean 'encoders'\?"),
        (
            "consume.pairs.topp=1",
            r"\[consume.pairs\] in moon.toml .*unknown option 'topp'; did you mean 'top'",
        ),
        ("rerank", r"--set 'rerank': write it as table.key=value"),
        ("=3", "write it as table.key=value"),
        ("out.deep.er=3", "--set 'out.deep.er=3': out is a value, not a table"),
        ("reader.root=[1]", r"root: input is not a valid path"),
    ],
)
def test_what_does_not_hold_says_where_and_what(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job(tmp_path, SMALL, override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "reader.name=fodler",
            r"no reader is called 'fodler' in \[reader\] in moon.toml; did you mean 'folder'",
        ),
        ("rerank.name=instance_token", "did you mean 'instance_tokens'"),
        ("consume.pears.top=1", r"no consumer is called 'pears' in \[consume.pears\] in moon.toml"),
    ],
)
def test_every_name_is_checked_before_any_work(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        job(tmp_path, SMALL, override)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("rerank.dim=16", 16),
        ("rerank.dim = 16", 16),
    ],
)
def test_an_override_is_toml_or_a_bare_word(tmp_path: Path, override: str, value: int) -> None:
    assert job(tmp_path, SMALL, override).rerank_ref().options["dim"] == value
    assert job(tmp_path, SMALL, "backbone.model=vit_x.y").backbone_ref().options["model"] == "vit_x.y"
    assert job(tmp_path, SMALL, 'backbone.model="vit"').backbone_ref().options["model"] == "vit"
    assert job(tmp_path, SMALL, "out=elsewhere").out == tmp_path / "elsewhere"


def test_two_unknown_keys_are_each_compared_with_their_own_table(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'index.fit_sampel'; did you mean 'fit_sample'\?.*"
        r"'serve.bsemap'; did you mean 'basemap'\?",
    ):
        job(tmp_path, SMALL + "[index]\nfit_sampel = 3\n[serve]\nbsemap = 'x'\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out = ", "is not TOML"),
        ("", "out is required; reader is required; backbone is required"),
        (SMALL.replace('name = "folder"', ""), "reader.name is required"),
        (SMALL.replace('out = "moon"', "out = 3"), r"out: input is not a valid path"),
        ('reader = "folder"\nout = "x"\n[backbone]\nname = "timm"\nmodel = "v"\n', "reader: "),
    ],
)
def test_a_file_that_is_no_job(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job(tmp_path, text)


def test_a_job_with_a_byte_order_mark_is_the_same_job(tmp_path: Path) -> None:
    plain = job(tmp_path)
    (tmp_path / "moon.toml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_job(tmp_path / "moon.toml") == plain


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the job file .*no.toml: No such file"):
        load_job(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="is a folder; a job file is asked for"):
        load_job(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_job(tmp_path / "binary.toml")


def test_a_job_says_what_its_base_says_but_for_its_own_keys(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(SMALL + "[serve]\nshards = 2\ntimeout_s = 9\n")
    (tmp_path / "middle.toml").write_text('base = "base.toml"\n[backbone]\nbatch = 3\n[serve]\nshards = 4\n')
    found = job(tmp_path, 'base = "middle.toml"\nout = "mars"\n[serve]\ntimeout_s = 5\n', "backbone.batch=2")
    assert (found.out, found.backbone.batch) == (tmp_path / "mars", 2)
    assert found.backbone_ref().options["model"] == "vit_small_patch16_224"
    assert (found.serve.shards, found.serve.timeout_s) == (4, 5)


def test_tables_of_a_list_are_changed_by_number_or_follow_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[[scenes]]\na = 1\nb = 1\n[[scenes]]\na = 2\n")
    (tmp_path / "own.toml").write_text('base = "base.toml"\n[scenes.0]\nb = 3\n[scenes.2]\na = 4\n')
    assert read(tmp_path / "own.toml") == {"scenes": [{"a": 1, "b": 3}, {"a": 2}, {"a": 4}]}
    more = "".join(f"[scenes.{number}]\na = {number}\n" for number in range(2, 12))
    (tmp_path / "own.toml").write_text(f'base = "base.toml"\n{more}')
    assert [table["a"] for table in read(tmp_path / "own.toml")["scenes"]] == [1, 2, *range(2, 12)]
    (tmp_path / "own.toml").write_text('base = "base.toml"\n[[scenes]]\na = 5\n')
    assert read(tmp_path / "own.toml") == {"scenes": [{"a": 5}]}
    for number in ("3", "one"):
        (tmp_path / "own.toml").write_text(f'base = "base.toml"\n[scenes.{number}]\na = 4\n')
        with pytest.raises(ConfigError, match=f"own.toml: {number} is none of the 2 tables of its base"):
            read(tmp_path / "own.toml")


def test_a_base_that_does_not_hold_is_named(tmp_path: Path) -> None:
    for base, words in (
        ("moon.toml", "which is based on moon.toml itself"),
        ("other.toml", "base in other.toml is moon.toml, which is based on other.toml itself"),
        ("../base.toml", "name a file in the same folder"),
        ("none.toml", r"cannot read the job file .*none.toml: No such file"),
    ):
        (tmp_path / "other.toml").write_text('base = "moon.toml"\n')
        with pytest.raises(ConfigError, match=words):
            job(tmp_path, f'base = "{base}"\n{SMALL}')
    with pytest.raises(ConfigError, match=r"base in moon\.toml is 3; name a file"):
        job(tmp_path, f"base = 3\n{SMALL}")


def test_queries_say_what_the_reader_does_but_for_their_own_keys(tmp_path: Path) -> None:
    found = job(tmp_path, SMALL + '[queries]\nroot = "others"\n')
    assert found.queries_ref().name == "folder"
    assert found.queries_ref().options == {**found.reader_ref().options, "root": str(tmp_path / "others")}
    assert found.reader_ref().options["root"] == str(tmp_path / "images")
    assert job(tmp_path, SMALL, "queries.root=others").queries_ref() == found.queries_ref()
    with pytest.raises(
        ConfigError, match=r"changes nothing of \[reader\], so the queries are the gallery itself"
    ):
        job(tmp_path, SMALL + "[queries]\n")
    named = job(tmp_path, SMALL + '[queries]\nname = "manifest"\npath = "a.csv"\n')
    assert named.queries_ref().name == "manifest"  # a table with a name starts from nothing


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("codec=int2", "rerank.codec"),
        ("reader.batch=3", "backbone.batch"),
        ("cluster.seed=3", "index.seed"),
        ("rerank.root=images", "reader.root"),
        ("of_options={}", "rerank.of_options"),
        ("resize=crop", "backbone.resize"),
    ],
)
def test_an_option_at_the_wrong_level_is_told_its_place(tmp_path: Path, override: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown option .*; did you mean '{place}'\?"):
        job(tmp_path, SMALL, override)


def test_a_job_without_queries_says_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"moon.toml has no \[queries\] table"):
        job(tmp_path).queries_ref()
    asked = job(tmp_path, SMALL + '[queries]\nname = "folder"\nroot = "q"\n').queries_ref()
    assert asked.options["root"] == str(tmp_path / "q")


def test_gpus_have_defaults_of_their_own_unless_a_job_says(tmp_path: Path) -> None:
    cpu, gpu = job(tmp_path), job(tmp_path, SMALL, "cluster.gpus_per_encoder=1")
    assert (cpu.batch(), cpu.cluster.decoders) == (8, 2)
    assert (gpu.batch(), gpu.cluster.decoders) == (64, 8)
    told = job(tmp_path, SMALL, "cluster.gpus_per_encoder=0.5", "cluster.decoders=3", "backbone.batch=8")
    assert (told.batch(), told.cluster.decoders) == (8, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"k": True}, "a number is asked for, not true"),
        ({"weight": float("inf")}, "finite"),
        ({"weight": float("nan")}, "finite"),
        ({"either": True}, ""),
        ({"flag": True}, ""),
    ],
)
def test_true_is_no_number_and_numbers_are_finite(given: dict[str, Any], said: str) -> None:
    class Own(Options):
        k: int = 2
        weight: float = 1.0
        flag: bool = False
        either: bool | float = 1.0

    if not said:
        assert Own(**given)
        return
    with pytest.raises(ValidationError, match=said):
        Own(**given)
