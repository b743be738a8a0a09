"""From a name in a job file to an object on a worker, and what is said when that cannot be."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import crater_ray.plugins
from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins import KINDS, Options, PluginRef, PluginSpec, Registry
from crater_ray.types import TokenShape

Install = Callable[..., Registry]
Make = Callable[..., Path]
PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def found(installed: Install, sites: Path) -> Registry:
    return installed(sites / "healthy")


def test_a_ref_is_plain_data_and_builds_what_it_names(found: Registry) -> None:
    ref = found.ref("backbone", "fake", {"dim": 8})
    assert json.loads(json.dumps(asdict(ref))) == {
        "kind": "backbone",
        "name": "fake",
        "options": {"dim": 8, "grid": 4, "image_size": 32},
        "module": "crater_ray_fake",
        "distribution": "crater-ray-fake",
        "version": "1.0",
        "algorithm_version": 1,
    }
    assert found.build(ref).shape.dim == 8


def test_a_cache_s_key_has_the_options_that_were_chosen_alone(found: Registry) -> None:
    ref = found.ref("backbone", "fake", {"dim": 8})
    assert found.chosen(ref) == replace(ref, options={"dim": 8})
    older = replace(ref, options={"dim": 8, "grid": 4})  # before there was an image_size
    assert found.chosen(older) == found.chosen(ref)
    assert found.chosen(replace(ref, options={**ref.options, "grid": 5})).options == {"dim": 8, "grid": 5}
    gone = replace(ref, name="of_a_package_that_is_gone")
    assert found.chosen(gone) == gone


def test_an_aggregator_is_built_with_the_shape(found: Registry) -> None:
    shape = found.build(found.ref("backbone", "fake")).shape
    assert found.build(found.ref("aggregator", "fake_first"), shape).dim == shape.dim


@pytest.mark.parametrize(
    ("declared", "method", "message"),
    [
        (
            "",
            "def locate(self, tokens, side): return None",
            "has locate, but its PluginSpec says locates=False",
        ),
        (
            ", locates=True",
            "",
            "lacks locate, but its PluginSpec says locates=True; write locates=False there",
        ),
        (", fits=True", "", "lacks fit, load, but its PluginSpec says fits=True"),
        (", asymmetric=True", "", "lacks query_k, but"),
        ("", "query_k = 3", "has query_k, but"),
    ],
)
def test_an_aggregator_has_the_promises_that_its_spec_declares(
    installed: Install, make: Make, declared: str, method: str, message: str
) -> None:
    source = f"""
class First:
    k, dim = 1, 2
    def __init__(self, shape): pass
    def __call__(self, tokens, side): pass
    {method}

@hookimpl
def register_aggregators():
    yield PluginSpec("made", "made for a test", "made_promise:First"{declared})
"""
    found = installed(make("made-promise", "1.0", source))
    with pytest.raises(PluginError, match=f"aggregator 'made' of made-promise 1.0 {message}"):
        found.build(found.ref("aggregator", "made"), TokenShape(2, (1, 1), 0, False))


@pytest.mark.parametrize(("declared", "word"), [("", "has"), (", loads_many=True", "lacks")])
def test_a_reader_that_loads_many_declares_it(
    installed: Install, make: Make, declared: str, word: str
) -> None:
    name = "load_many" if word == "has" else "load_one"
    source = f"""
class First:
    def {name}(self, uris): return []

@hookimpl
def register_readers():
    yield PluginSpec("made", "made for a test", "made_many_{word}:First"{declared})
"""
    found = installed(make(f"made-many-{word}", "1.0", source))
    message = f"reader 'made' of made-many-{word} 1.0 {word} load_many, but its PluginSpec says loads_many="
    with pytest.raises(PluginError, match=message):
        found.build(found.ref("reader", "made"))


def test_an_aggregator_that_needs_attention_is_refused_without(installed: Install, make: Make) -> None:
    source = """
@hookimpl
def register_aggregators():
    yield PluginSpec("made", "made for a test", "made_attentive:Nothing", needs_attention=True)
"""
    found = installed(make("made-attentive", "1.0", source))
    with pytest.raises(ConfigError, match="aggregator 'made' needs class attention"):
        found.build(found.ref("aggregator", "made"), TokenShape(2, (1, 1), 0, True))


def test_a_name_that_nobody_has_suggests_the_closest(found: Registry) -> None:
    with pytest.raises(
        PluginError,
        match=r"no reader is called 'fodler' in \[reader\] in moon.toml; "
        r"did you mean 'folder'\? known: fake",
    ):
        found.ref("reader", "fodler", where="[reader] in moon.toml")


def test_a_name_far_from_all_lists_what_there_is(found: Registry) -> None:
    with pytest.raises(PluginError, match="no backbone is called 'zzz'; known: fake, timm"):
        found.ref("backbone", "zzz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"dmi": 3},
            r"\[backbone\] in a.toml 'fake': unknown option 'dmi'; did you mean 'dim'\? known: dim,",
        ),
        ({"batc": 3}, r"unknown option 'batc'; did you mean 'batch'\?"),
        ({"dim": 0}, r"'fake': dim: input should be greater than or equal to 1 \(got 0\)"),
        ({"dim": "many"}, r"dim: input should be a valid integer.* \(got 'many'\)"),
        ({"dim": 0, "zzz": 1}, r"greater than .*; unknown option 'zzz'; known: dim, grid, image_size, batch"),
    ],
)
def test_options_that_do_not_hold(found: Registry, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        found.ref("backbone", "fake", options, where="[backbone] in a.toml", words=["batch"])


def test_a_required_option_says_so(found: Registry) -> None:
    with pytest.raises(ConfigError, match="reader 'folder': root is required"):
        found.ref("reader", "folder")


def test_files_become_absolute_against_the_job_file(
    found: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = {"table": "moon.csv", "extra": ["../a", "/b", "~/c"]}
    ref = found.ref("reader", "fake_paths", options, base=tmp_path / "jobs")
    assert ref.options == {
        "table": str(tmp_path / "jobs" / "moon.csv"),
        "scale": 1.0,
        "extra": [str(tmp_path / "jobs" / ".." / "a"), "/b", str(tmp_path / "home" / "c")],
    }
    built = found.build(ref)
    assert built.options["table"] == tmp_path / "jobs" / "moon.csv"  # a Path again where it is built
    monkeypatch.chdir(tmp_path)
    assert found.ref("reader", "fake_paths", {"table": "x"}, base=Path("jobs")).options["table"] == str(
        tmp_path / "jobs" / "x"
    )
    assert found.ref("reader", "fake_paths").options["table"] is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fake_absent", "No module named 'crater_ray_fake_absent'"),
        ("fake_nameless", "has no attribute 'Nothing'"),
        ("fake_exit", "SystemExit: no GPU, goodbye"),
    ],
)
def test_a_factory_that_cannot_be_imported_names_the_package_and_the_pip_line(
    found: Registry, name: str, words: str
) -> None:
    with pytest.raises(
        PluginError,
        match=rf"reader '{name}' of crater-ray-fake 1\.0 cannot be imported: "
        rf".*{words}.*try: pip install --force-reinstall crater-ray-fake",
    ):
        found.build(found.ref("reader", name))


def test_another_version_on_this_node_is_an_error_naming_both(found: Registry) -> None:
    ref = replace(found.ref("backbone", "fake"), version="0.9")
    with pytest.raises(
        PluginError,
        match=r"comes from crater-ray-fake 0\.9 where .* crater-ray-fake 1\.0 on "
        r"node .*; install crater-ray-fake==0\.9 there",
    ):
        found.build(ref)


@pytest.mark.parametrize("version", ["0.9", "1.7", "12.0.dev3"])
def test_any_release_that_computes_the_same_opens_an_index(found: Registry, version: str) -> None:
    here = found.ref("backbone", "fake")
    assert found.current(replace(here, version=version, module="moved")) == here
    assert found.build(found.current(replace(here, version=version))).shape


def test_another_algorithm_version_is_refused_by_both_numbers(found: Registry) -> None:
    ref = replace(found.ref("backbone", "fake"), version="0.9", algorithm_version=3)
    with pytest.raises(
        PluginError,
        match=r"is of crater-ray-fake 0\.9, algorithm version 3, and crater-ray-fake 1\.0 has 1; "
        r"install 'crater-ray-fake==0\.9', or index again",
    ):
        found.current(ref)
    with pytest.raises(
        PluginError, match=r"of the index is of other-fake 1\.0, .* install other-fake, or index"
    ):
        found.current(replace(found.ref("backbone", "fake"), distribution="other-fake"))


def test_a_package_that_this_node_lacks_names_the_pip_line(found: Registry) -> None:
    ref = PluginRef("backbone", "elsewhere", {}, "module_elsewhere.inner", "dist-elsewhere", "3.1")
    with pytest.raises(
        PluginError,
        match=r"needs dist-elsewhere 3\.1, which node .* does not have; "
        r"try: pip install dist-elsewhere==3\.1",
    ):
        found.build(ref)


def test_a_worker_that_sees_the_module_but_not_the_entry_points_builds_it(
    installed: Install, sites: Path, tmp_path: Path
) -> None:
    ref = installed(sites / "healthy").ref("backbone", "fake", {"dim": 4})
    (tmp_path / "crater_ray_fake.py").write_text((sites / "healthy" / "crater_ray_fake.py").read_text())
    bare = installed(tmp_path)  # as a working_dir: importable, no dist-info
    assert "fake" not in bare.specs("backbone")
    assert bare.build(ref).shape.dim == 4
    with pytest.raises(PluginError, match="has without that name"):
        bare.build(replace(ref, name="fake_other"))


def test_the_worker_s_fallback_steps_round_neither_allowlist_nor_conflict(
    installed: Install, make: Make, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = installed(sites / "healthy").ref("backbone", "fake")
    source = '@hookimpl\ndef register_backbones():\n    yield PluginSpec("fake", "", "a:B")\n'
    rival = make("made-rival", "1.0", source)
    with pytest.raises(PluginError, match=r"claimed by crater-ray-fake 1\.0 and made-rival 1\.0"):
        installed(sites / "healthy", rival).build(ref)
    monkeypatch.setenv("CRATER_RAY_PLUGINS", "")
    with pytest.raises(PluginError, match="cannot use: it is disabled"):
        installed(sites / "healthy").build(ref)


def test_a_module_that_breaks_on_the_worker_alone_says_so(
    found: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_fragile.py").write_text("raise OSError('libcuda.so.1 is not here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    ref = PluginRef("backbone", "fragile", {}, "made_fragile", "made-fragile", "1.0")
    with pytest.raises(PluginError, match=r"needs made-fragile 1\.0, .*OSError: libcuda.so.1 is not here"):
        found.build(ref)


def test_options_are_checked_again_where_it_is_built(found: Registry) -> None:
    ref = found.ref("backbone", "fake")
    with pytest.raises(ConfigError, match="unknown option 'colour'"):
        found.build(replace(ref, options={**ref.options, "colour": 1}))


def test_every_spec_of_the_core_names_a_factory_that_is_there(installed: Install) -> None:
    found = installed()
    for kind in KINDS:
        for name in found.specs(kind):
            assert callable(found.factory(found.find(kind, name))), name


BUNDLED = sorted(path.parent for path in PLUGINS.glob("crater-ray-*/crater_ray_*/__init__.py"))


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_every_spec_of_a_bundled_plugin_names_a_factory_that_is_there(folder: Path) -> None:
    hooks = pytest.importorskip(folder.name, reason=f"{folder.parent.name} is not installed")
    specs = [spec for kind in KINDS for spec in getattr(hooks, f"register_{kind}s", list)()]
    assert specs
    for spec in specs:
        module, _, attribute = spec.factory.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), spec.name


def test_a_nested_and_an_optional_file_is_found() -> None:
    class Nested(Options):
        plain: str = ""
        one: crater_ray.plugins.File
        maybe: crater_ray.plugins.File | None = None
        several: tuple[crater_ray.plugins.File, ...] = ()

    assert Nested.files() == {"one", "maybe", "several"}
    assert PluginSpec("a", "", "b:C", Nested).options is Nested


def test_the_public_names_of_the_seam() -> None:
    assert set(crater_ray.plugins.__all__) == {
        "Aggregator",
        "Ask",
        "Asymmetric",
        "Backbone",
        "Consumer",
        "Cuts",
        "File",
        "Fitted",
        "GROUP",
        "Index",
        "Interview",
        "KINDS",
        "Kind",
        "PluginSpec",
        "Question",
        "LoadsMany",
        "Located",
        "Options",
        "Reader",
        "PluginRef",
        "Registry",
        "PluginStatus",
        "hookimpl",
        "registry",
    }
    assert not [name for name in crater_ray.plugins.__all__ if not hasattr(crater_ray.plugins, name)]


def test_a_real_installation_is_seen_by_a_fresh_interpreter(sites: Path) -> None:
    code = (
        "from crater_ray.plugins import registry as r\n"
        "print(r().build(r().ref('backbone', 'fake', {'dim': 6})).shape.dim)"
    )
    env = {**os.environ, "PYTHONPATH": str(sites / "healthy"), "CRATER_RAY_PLUGINS": "crater-ray-fake"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "6\n"
