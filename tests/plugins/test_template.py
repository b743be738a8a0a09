"""A copy of plugins/template, renamed and installed beside six broken plugins, does a whole job."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[2] / "plugins" / "template"
JOB = """
out = "index"
[reader]
name = "my_own_disks"
[queries]
name = "my_own_disks"
seed = 1
views = 1
[backbone]
name = "my_own_grid"
[shortlist]
name = "my_own_blocks"
side = 1
[rerank]
name = "my_own_blocks"
side = 4
[consume.my_own_table]
top = 1
[cluster]
threads = 1
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The template as its README says to copy and rename it."""
    folder = tmp_path / "my-own"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "rename.py", "my-own"], cwd=folder, check=True)
    return folder


@pytest.fixture
def run(copy: Path, tmp_path: Path, sites: Path) -> Run:
    """Runs `crater-ray` where the copy is installed by pip, with the broken plugins beside it."""
    site = tmp_path / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--target",
            str(site),
            str(copy),
        ],
        check=True,
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), str(sites / "broken")]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
    env.pop("CRATER_RAY_PLUGINS", None)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "crater_ray.cli", *words],
            cwd=tmp_path,
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return command


def test_nothing_of_the_old_name_is_left(copy: Path) -> None:
    for path in copy.rglob("*"):
        assert "template" not in path.name
        assert not path.is_file() or "template" not in path.read_text(encoding="utf-8")
    assert not (copy / "rename.py").exists()


@pytest.mark.parametrize("name", ["My-Name", "my_name", "1st", "a--b", ""])
def test_a_name_that_no_package_can_have_changes_nothing(tmp_path: Path, name: str) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    ran = subprocess.run(
        [sys.executable, "rename.py", name],
        cwd=tmp_path / "copy",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "use lower-case letters" in ran.stderr
    assert (tmp_path / "copy" / "crater_ray_template" / "__init__.py").exists()


def own_tests_pass(copy: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=copy,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout


def test_its_own_tests_pass_under_the_new_name(copy: Path) -> None:
    own_tests_pass(copy)


@pytest.mark.ray
@pytest.mark.timeout(900)  # four commands, two of which start Ray, on a machine that may be busy
def test_installed_it_does_a_whole_job_beside_six_broken_plugins(run: Run, tmp_path: Path) -> None:
    rows = json.loads(run("plugins", "--json").stdout)
    ours = {(row["kind"], row["name"]) for row in rows if row["distribution"] == "crater-ray-my-own"}
    assert ours == {
        ("reader", "my_own_disks"),
        ("backbone", "my_own_grid"),
        ("aggregator", "my_own_blocks"),
        ("consumer", "my_own_table"),
        ("command", "my-own-hello"),
    }
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(failed) == 6
    assert all(row["reason"] and row["version"] and row["path"] for row in failed)
    assert "reader my_own_disks: painted disks" in run("my-own-hello").stdout

    (tmp_path / "disks.toml").write_text(JOB)
    found = json.loads(run("evaluate", "disks.toml", "--json").stdout)  # indexes first
    assert (found["gallery"], found["queries"], found["hit@1"]) == (24, 12, 1.0)
    run("consume", "my_own_table", "disks.toml")
    (table,) = tmp_path.rglob("my_own_table.csv")
    with table.open() as file:
        nearest = list(csv.DictReader(file))
    assert len(nearest) == 24
    assert all(row["query_id"].startswith(row["group"]) for row in nearest)  # the other view of the same disk


def test_what_its_readme_says_to_delete_leaves_the_tests_passing(copy: Path) -> None:
    module, tests = copy / "crater_ray_my_own" / "__init__.py", copy / "tests" / "test_plugin.py"
    for path, found in (
        (module, r"class TableOptions.*?\n\n\n|@hookimpl\ndef register_consumers.*?\n\n\n"),
        (tests, r"from \S+ import Table\n|, check_consumer|def test_the_consumer.*?\n\n\n"),
    ):
        path.write_text(re.sub(found, "", path.read_text(encoding="utf-8"), flags=re.DOTALL))
    (copy / "crater_ray_my_own" / "table.py").unlink()
    own_tests_pass(copy)
