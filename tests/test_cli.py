"""The command line: what it prints, its exit codes, and what it does not import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from crater_ray.builtin import COMMANDS
from crater_ray.cli import _one_line_each, app, main
from crater_ray.plugins import registry

FIXTURE = Path(__file__).parent / "fixtures" / "index_format_1"
HEAVY = ("torch", "ray", "pyarrow", "faiss", "numpy", "timm", "matplotlib")


class OneThread:
    """A stream that takes what the thread that made it writes, and drops what others write."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return int(self._stream.write(text)) if threading.get_ident() == self._thread else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Captured is what a test says itself: a cluster of other tests may speak at any time."""
    with (
        patch.object(sys, "stdout", OneThread(sys.stdout)),
        patch.object(sys, "stderr", OneThread(sys.stderr)),
    ):
        yield


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `crater-ray …`, in this process."""
    with one_thread(), pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "from crater_ray.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "evaluate" in done.stdout


def test_the_cores_own_commands_are_registered_so_that_no_plugin_takes_them() -> None:
    specs = registry().specs("command")
    assert set(COMMANDS) == set(app.commands)
    for name, command in app.commands.items():
        assert specs[name].factory == f"crater_ray.cli:{name}"
        assert command.help


def test_plugins_as_json_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "plugins", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"kind", "name", "distribution", "version", "seam", "path", "status", "reason"} == set(rows[0])
    assert {"reader", "backbone", "aggregator", "consumer", "command"} <= {row["kind"] for row in rows}


def test_plugins_as_text_has_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "plugins")
    assert len(out.splitlines()) == len(registry().statuses()) + 1


def test_info_is_a_table_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "info", str(FIXTURE))
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines()[1:] if line[0] != " ")
    assert facts["views"] == "24: test 24"
    assert facts["version"] == "1; published: 1"
    assert facts["tokens"] == "whitened_tokens: 6 × 16, int4, maxsim"
    assert facts["bytes"] == "400 a view, 10 kB in all"
    _, out, _ = call(capsys, "info", str(FIXTURE), "--schema")
    assert out.splitlines()[0].split() == ["column", "type"]
    assert ["radius", "float"] in [line.split() for line in out.splitlines()]
    _, out, _ = call(capsys, "info", str(FIXTURE), "--schema", "--json")
    assert json.loads(out)["body"] == "string"
    code, _, err = call(capsys, "info", str(FIXTURE), "--schema", "--skipped")
    assert (code, "ask for one" in err) == (2, True)


def test_nothing_to_do_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copy = str(shutil.copytree(FIXTURE, tmp_path / "index"))
    assert call(capsys, "compact", copy, "--rows", "1")[1] == f"{copy}: nothing to compact: version 1 stays\n"
    assert call(capsys, "gc", copy)[1] == f"{copy}: nothing to remove\n"
    assert call(capsys, "gc", copy, "--dry-run")[1] == f"{copy}: nothing to remove\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "out is required"),
        ("out = 3", "out"),
        ("not toml at all", "is not TOML"),
        ('out = "o"\n[reader]\nname = "foldr"\nroot = "."\n', "did you mean 'folder'"),
        ('out = "o"\n[reader]\nname = "folder"\nrot = "."\n', "did you mean 'root'"),
        ('out = "o"\n[reader]\nname = "folder"\nroot = "."\n[indx]\n', "did you mean 'index'"),
    ],
)
def test_a_job_file_that_does_not_hold_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(text + ('[backbone]\nname = "timm"\nmodel = "x"\n' if "[reader]" in text else ""))
    code, _, err = call(capsys, "index", str(job))
    assert code == 2
    assert said in err
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("index", "nowhere.toml"), "cannot read the job file nowhere.toml"),
        (("info", "."), "is not an index"),
        (("info", "nowhere.toml"), "cannot read the job file nowhere.toml"),
        (("verify", "."), "is not an index"),
        (("query", ".", "--id", "x"), "is not an index"),
        (("query", "."), "name an image file"),
        (("query", ".", "--top", "0", "--id", "x"), "--top"),
        (("nonsense",), "No such command"),
    ],
)
def test_a_callers_mistake_is_exit_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_fault_of_ours_is_exit_1_and_a_traceback_only_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("crater_ray.index.info.facts", broken)
    code, _, err = call(capsys, "info", str(FIXTURE))
    assert code == 1
    assert err.startswith("Error: RuntimeError: a bug")
    assert "--debug" in err
    with pytest.raises(RuntimeError, match="a bug"):
        main(["--debug", "info", str(FIXTURE)])


@pytest.mark.parametrize(
    ("name", "said"), [("cudda", "no device of torch's"), ("meta", "cannot be used here")]
)
def test_a_device_that_is_not_here_is_one_line(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "query", str(tmp_path), "a.png", "--device", name)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_warning_is_one_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    show = _one_line_each()
    with one_thread():
        for _ in range(2):  # Python itself shows one again after any catch_warnings
            show(UserWarning("2 rows are skipped"), UserWarning, "reader.py", 1)
            show(UserWarning("of its own affairs"), UserWarning, "/lib/ray/init.py", 1)
            show(DeprecationWarning("of a library"), DeprecationWarning, "reader.py", 1)
    assert capsys.readouterr().err == "Warning: 2 rows are skipped\n"


def test_what_another_thread_says_is_not_captured(capsys: pytest.CaptureFixture[str]) -> None:
    with one_thread():
        thread = threading.Thread(target=lambda: print("theirs", file=sys.stderr))
        thread.start()
        thread.join()
        print("ours", file=sys.stderr)
    assert capsys.readouterr().err == "ours\n"
