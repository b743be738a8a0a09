"""Ray's own talk goes to a file: what it logs, prints and writes past Python; ours is on the terminal."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from crater_ray import ray_log
from crater_ray.errors import ClusterError, ConfigError
from crater_ray.ray_log import kept_log, ray_apart


def program(body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Runs as a command would, with modules that call themselves Ray's and a plugin's."""
    said = """
        import logging, os, subprocess, sys, threading, types
        import click
        from crater_ray.errors import ClusterError, ConfigError
        from crater_ray.ray_log import kept_log, ray_apart
        SAYS = "import logging, sys\\n" \\
            "def prints(text): print(text)\\n" \\
            "def shouts(text): print(text, file=sys.stderr)\\n" \\
            "def logs(text):\\n" \\
            "    logger = logging.getLogger(__name__ + text); logger.propagate = False\\n" \\
            "    logger.addHandler(logging.StreamHandler()); logger.warning(text)\\n"
        def module(name):
            found = types.ModuleType(name)
            exec(SAYS, found.__dict__)
            return found
        ray, plugin = module("ray._private.worker"), module("crater_ray_stranger.command")
        early = logging.StreamHandler()
    """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(said) + textwrap.dedent(body))
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)


def test_what_ray_says_is_apart_and_what_is_ours_is_where_it_was(tmp_path: Path) -> None:
    done = program(
        """
        try:
            with ray_apart(), ray_apart():
                for who in (ray, plugin):
                    name = who.__name__[:3]
                    who.prints(name + "1"), who.shouts(name + "2"), who.logs(name + "3")
                threading.Thread(target=ray.prints, args=("ray4",), name="ray_listen_error_messages").start()
                os.write(1, b"ray5\\n"), os.write(2, b"ray6\\n")
                subprocess.run([sys.executable, "-c", "import sys; print('ray7'); sys.exit('ray8')"])
                early.emit(logging.makeLogRecord({"msg": "ray9"}))
                click.echo("ours1"), click.echo("ours2", err=True)
                raise ClusterError("lost")
        except ClusterError:
            pass
        print("after"), print("after", file=sys.stderr), os.write(2, b"after\\n"), ray.prints("ray after")
        print(kept_log().read_text(), end="")
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["cra2", "cra3", "ours2", "after", "after"]
    shown, _, log = done.stdout.partition("ray after\n")
    assert shown.split() == ["cra1", "ours1", "after"]
    assert sorted(log.split()) == [f"ray{number}" for number in range(1, 10)]


@pytest.mark.parametrize(
    ("ending", "kept"),
    [
        ("pass", False),
        ("raise ConfigError('a mistake')", False),
        ("raise KeyboardInterrupt", False),
        ("raise KeyError('ours')", True),
        ("raise ClusterError('lost')", True),
    ],
)
def test_the_file_stays_only_where_something_failed(tmp_path: Path, ending: str, kept: bool) -> None:
    done = program(
        f"""
        try:
            with ray_apart():
                ray.prints("said")
                {ending}
        except BaseException:
            pass
        print(kept_log())
        """,
        tmp_path,
    )
    assert done.stderr == ""
    assert (done.stdout.strip() != "None") is kept
    if kept:
        path = Path(done.stdout.strip())
        assert path.read_text() == "said\n"
        path.unlink()


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What this test leaves behind is no other test's: the file that a failure keeps."""
    yield
    left, ray_log._kept = kept_log(), None
    if left is not None:
        left.unlink(missing_ok=True)


@pytest.mark.usefixtures("forgotten")
def test_streams_that_are_no_files_are_kept_apart_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    ray = types.ModuleType("ray.serve")
    exec("def prints(text): print(text)", ray.__dict__)
    before = sys.stdout, sys.stderr
    held = []

    def fails() -> None:
        ray.prints("theirs")
        print("ours")
        held.append(sys.stdout)
        raise ClusterError("lost")

    with pytest.raises(ClusterError), ray_apart():
        fails()
    assert (sys.stdout, sys.stderr) == before
    print("later", file=held[0])  # whoever holds the stream still
    shown = capsys.readouterr().out  # a cluster of other tests may speak at any time, within a line too
    assert "ours" in shown
    assert "later" in shown
    assert "theirs" not in shown
    log = kept_log()
    assert log is not None
    assert "theirs" in log.read_text()
    with pytest.raises(ConfigError), ray_apart():
        raise ConfigError("a mistake")
    assert kept_log() is None


@pytest.mark.usefixtures("forgotten")
def test_what_is_ours_is_shown_where_ray_has_replaced_print(capsys: pytest.CaptureFixture[str]) -> None:
    bars, ray = types.ModuleType("ray.experimental.tqdm_ray"), types.ModuleType("ray.serve")
    exec("def safe_print(text): print(text)", bars.__dict__)
    exec("def prints(text): safe_print(text)", ray.__dict__)
    ray.__dict__["safe_print"] = bars.__dict__["safe_print"]

    def fails() -> None:
        bars.__dict__["safe_print"]("ours")
        ray.__dict__["prints"]("theirs")
        raise ClusterError("lost")

    with pytest.raises(ClusterError), ray_apart():
        fails()
    shown, log = capsys.readouterr().out, kept_log()
    assert "ours" in shown
    assert "theirs" not in shown
    assert log is not None
    assert "theirs" in log.read_text()
