"""Plugins are found, and a broken one is listed with its reason and stops nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crater_ray.errors import PluginError
from crater_ray.plugins import Registry, hookspecs

Install = Callable[..., Registry]
Make = Callable[..., Path]
READER = """
@hookimpl
def register_readers():
    yield PluginSpec("{name}", "made for a test", "{module}:Reader")
"""
READERS = "@hookimpl\ndef register_readers():"
REASONS = {
    "broken-import": "ModuleNotFoundError: No module named 'a_package_nobody_installed' (broken_import.py:3)",
    "broken-exit": "SystemExit: 3 (broken_exit.py:5)",
    "broken-hook": "RuntimeError: no weights folder (broken_hook.py:20)",
    "broken-name": "ValueError: unknown hook 'register_reader'; the hooks are register_readers",
    "broken-spec": "TypeError: register_aggregators yields dict, not crater_ray.plugins.PluginSpec",
    "broken-claim": "ValueError: aggregator 'instance_tokens' is a name of crater-ray itself",
}


def test_six_broken_plugins_are_listed_and_stop_nothing(installed: Install, sites: Path) -> None:
    with pytest.warns(UserWarning, match="is not usable") as caught:
        found = installed(sites / "broken", sites / "healthy")
    failed = {row.distribution: row for row in found.statuses() if row.status == "failed"}
    assert failed.keys() == REASONS.keys()
    for distribution, reason in REASONS.items():
        row = failed[distribution]
        assert row.reason.startswith(reason), row.reason
        assert (row.version, row.path) == ("1.0", str(sites / "broken"))
        assert any(distribution in str(warning.message) for warning in caught)
    assert "fake" in found.specs("backbone")
    assert "instance_tokens" in found.specs("aggregator")
    assert not [row for row in found.statuses() if row.name.startswith("broken") and row.status == "ok"]


def test_a_broken_plugin_that_is_named_is_the_error(installed: Install, sites: Path) -> None:
    with pytest.warns(UserWarning, match="is not usable"):
        found = installed(sites / "broken")
    with pytest.raises(PluginError, match=r"broken-hook 1\.0 failed to load \(RuntimeError: no weights"):
        found.ref("backbone", "broken_hook")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "@hookimpl\ndef register_readers(config): yield",
            "ValueError: Plugin 'made_odd' for hook 'register_readers' hookimpl definition: register_readers(c",  # noqa: E501
        ),
        (READERS + " yield from ()", "ValueError: it registers nothing"),
        ("", "ValueError: it registers nothing"),
        (READERS + " return PluginSpec('made', '', 'a:B')", "TypeError: 'PluginSpec' object is not iterable"),
        (READER.format(name="Made", module="made_odd"), "ValueError: spec name 'Made': use lower-case"),
        (READER.format(name="made", module="made_odd.Reader; x"), "ValueError: factory"),
        (
            "class Mine(Options):\n    cache: int = 0\n"
            + READERS
            + " yield PluginSpec('made', '', 'a:B', Mine)",
            "ValueError: option 'cache' of 'made' is a word of the job file",
        ),
        (READERS + " yield PluginSpec('made', '', 'a:B', dict)", "ValueError: options of 'made'"),
        (
            READERS + " yield PluginSpec('made', '', 'a:B'); yield PluginSpec('made', '', 'a:C')",
            "ValueError: it registers reader 'made' twice",
        ),
    ],
)
def test_each_way_to_be_wrong_has_its_reason(
    installed: Install, make: Make, sites: Path, source: str, reason: str
) -> None:
    with pytest.warns(UserWarning, match=r"made-odd 1\.0 is not usable"):
        found = installed(make("made-odd", "1.0", source), sites / "healthy")
    (row,) = [row for row in found.statuses() if row.status == "failed"]
    assert row.reason.startswith(reason), row.reason
    assert "fake" in found.specs("reader")


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ("[crater_ray]\nnothing after the name\n", "metadata cannot be read"),
        ("[crater_ray]\nmade = made_absent\n", "No module named 'made_absent'"),
        ("[crater_ray]\nmade = made_odd:absent\n", "has no attribute 'absent'"),
        ("[crater_ray]\nmade = made_odd:PluginSpec\n", "the entry point gives a type, not the module"),
    ],
)
def test_an_entry_point_that_leads_nowhere(
    installed: Install, make: Make, sites: Path, points: str, reason: str
) -> None:
    with pytest.warns(UserWarning, match="is not usable"):
        found = installed(make("made-odd", "1.0", "", points=points), sites / "healthy")
    (row,) = [row for row in found.statuses() if row.status == "failed"]
    assert reason in row.reason
    assert "fake" in found.specs("reader")


@pytest.mark.parametrize(
    ("seam", "declared", "mend"),
    [
        ("", None, "which declares none; add it"),
        ("crater_ray_seam = 2\n", 2, "which declares 2; install a release of the plugin for that version"),
    ],
)
def test_a_plugin_for_another_seam_is_listed_and_not_loaded(
    installed: Install, make: Make, sites: Path, seam: str, declared: int | None, mend: str
) -> None:
    with pytest.warns(UserWarning, match=r"made-odd 1\.0 is not usable: crater-ray here needs"):
        found = installed(
            make("made-odd", "1.0", READER.format(name="made", module="made_odd"), seam=seam),
            sites / "healthy",
        )
    (row,) = [row for row in found.statuses() if row.status == "incompatible"]
    assert row.reason == f"crater-ray here needs `crater_ray_seam = 1` in made_odd, {mend}"
    assert row.seam == declared
    assert {row.seam for row in found.statuses() if row.status == "ok"} == {1}
    assert "made" not in found.specs("reader")
    with pytest.raises(PluginError, match=r"made-odd 1\.0 is incompatible"):
        found.ref("reader", "made")


def test_a_dist_info_without_metadata(installed: Install, make: Make, sites: Path) -> None:
    site = make("made-odd", "1.0", "")
    (site / "made_odd-1.0.dist-info" / "METADATA").unlink()
    with pytest.warns(UserWarning, match="is not usable"):
        found = installed(site, sites / "healthy")
    (row,) = [row for row in found.statuses() if row.status == "failed"]
    assert "metadata cannot be read" in row.reason
    assert "fake" in found.specs("reader")


def test_two_claims_on_one_name_are_an_error_naming_both(installed: Install, make: Make) -> None:
    found = installed(
        make("made-one", "1.0", READER.format(name="made", module="made_one")),
        make("made-two", "2.5", READER.format(name="made", module="made_two")),
    )
    rows = [row for row in found.statuses() if row.name == "made"]
    assert [row.status for row in rows] == ["conflict", "conflict"]
    assert "made" not in found.specs("reader")
    for row in rows:
        assert "made-one 1.0 and made-two 2.5" in row.reason
    with pytest.raises(PluginError, match=r"claimed by made-one 1\.0 and made-two 2\.5; uninstall one, or"):
        found.ref("reader", "made")


def test_one_name_in_two_kinds_is_no_conflict(installed: Install, sites: Path) -> None:
    found = installed(sites / "healthy")
    assert found.ref("reader", "fake").kind == "reader"
    assert found.ref("backbone", "fake").kind == "backbone"


def test_a_second_copy_further_down_the_path_is_shadowed(installed: Install, make: Make) -> None:
    source = READER.format(name="made", module="made_one")
    found = installed(make("made-one", "2.0", source), make("made-one", "1.0", source))
    (row,) = [row for row in found.statuses() if row.name == "made"]
    assert (row.version, row.status) == ("2.0", "ok")


@pytest.mark.parametrize(
    ("value", "usable", "disabled"),
    [
        (None, {"made-one", "made-two"}, set()),
        ("", set(), {"made-one", "made-two"}),
        ("made-two", {"made-two"}, {"made-one"}),
        (" Made_Two , made.one ", {"made-one", "made-two"}, set()),
    ],
)
def test_the_allowlist(
    installed: Install,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    usable: set[str],
    disabled: set[str],
) -> None:
    sites = [
        make(name, "1.0", READER.format(name=name.replace("-", "_"), module=name.replace("-", "_")))
        for name in ("made-one", "made-two")
    ]
    installed(*sites)
    if value is not None:
        monkeypatch.setenv("CRATER_RAY_PLUGINS", value)
    found = installed(*sites)
    rows = found.statuses()
    assert {row.distribution for row in rows if row.status == "ok"} == {"crater-ray", *usable}
    assert {row.distribution for row in rows if row.status == "disabled"} == disabled
    assert "folder" in found.specs("reader")  # the core's own always work


def test_a_disabled_plugin_is_not_imported(
    installed: Install, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRATER_RAY_PLUGINS", "")
    installed(make("made-one", "1.0", "raise SystemExit('imported')"))
    assert "made_one" not in sys.modules


def test_a_name_in_the_allowlist_that_is_not_installed_warns(
    installed: Install, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRATER_RAY_PLUGINS", "crater-ray-fake,crater-ray-mosiac")
    with pytest.warns(UserWarning, match="names 'crater-ray-mosiac', which is not installed"):
        found = installed(sites / "healthy")
    assert "fake" in found.specs("reader")


def test_the_allowlist_settles_a_conflict(
    installed: Install, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRATER_RAY_PLUGINS", "made-two")
    found = installed(
        make("made-one", "1.0", READER.format(name="made", module="made_one")),
        make("made-two", "2.5", READER.format(name="made", module="made_two")),
    )
    assert found.ref("reader", "made").distribution == "made-two"


FRESH = """
import json, sys, warnings
warnings.simplefilter("ignore")
from crater_ray.plugins import registry
rows = registry().statuses()
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = sorted(loaded & {"torch", "ray", "timm", "faiss", "pyarrow", "PIL"})
print(json.dumps({"heavy": heavy, "status": {f"{row.kind} {row.name}": row.status for row in rows}}))
"""


def test_a_fresh_interpreter_lists_everything_and_imports_neither_torch_nor_ray(sites: Path) -> None:
    path = os.pathsep.join([str(sites / "healthy"), str(sites / "broken")])
    env = {**os.environ, "PYTHONPATH": path, "CRATER_RAY_PLUGINS": ",".join(["crater-ray-fake", *REASONS])}
    ran = subprocess.run([sys.executable, "-c", FRESH], env=env, capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout)
    assert answer["heavy"] == []
    assert answer["status"]["backbone fake"] == "ok"
    assert answer["status"]["aggregator instance_tokens"] == "ok"
    assert list(answer["status"].values()).count("failed") == len(REASONS)


def test_every_hook_has_a_healthy_spec_and_a_place_in_the_template_s_readme(
    installed: Install, sites: Path
) -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("register_")}
    found = installed(sites / "healthy")
    assert hooks == {
        f"register_{row.kind}s" for row in found.statuses() if row.distribution == "crater-ray-fake"
    }
    readme = (sites.parents[1] / "plugins" / "template" / "README.md").read_text(encoding="utf-8")
    assert not [hook for hook in sorted(hooks) if hook not in readme]
