"""What becomes of COLMAP's own deaths."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from crater_ray_colmap.child import WORKER, ColmapFailed, last_words, run

QUIET = Console(quiet=True)


def task(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "database": folder / "database.db",
        "images": folder,
        "groups": [["absent.jpg"]],
        "camera_model": "SIMPLE_RADIAL",
        "features": 100,
        "image_size": 100,
        "threads": 1,
        "seed": 0,
        **more,
    }


def test_an_abort_inside_colmap_is_an_error_that_says_where(tmp_path: Path) -> None:
    """A damaged table is found in one of COLMAP's own threads, and std::terminate ends the process."""
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        coarse = Image.fromarray(random.integers(0, 256, (30, 40), np.uint8))
        coarse.resize((200, 150), Image.Resampling.BICUBIC).save(tmp_path / name)
    answer = run("features", task(tmp_path, groups=[["a.png", "b.png"]]), tmp_path, console=QUIET)
    assert answer["keypoints"] > 50
    with closing(sqlite3.connect(tmp_path / "database.db")) as database:
        database.execute("UPDATE descriptors SET data = x'00'")
        database.commit()
    (tmp_path / "pairs.txt").write_text("a.png b.png\n")
    wanted = {"database": tmp_path / "database.db", "pairs": tmp_path / "pairs.txt", "threads": 1, "seed": 0}
    with pytest.raises(ColmapFailed) as caught:
        run("matches", wanted, tmp_path, console=QUIET)
    said = caught.value.message
    assert "COLMAP was ended by SIGABRT at 'matches': " in said
    assert "Check failed" in said
    assert str(tmp_path / "log.txt") in said
    assert "run the same command again" in said
    assert caught.value.exit_code == 1


def test_an_image_that_colmap_cannot_read_is_told(tmp_path: Path) -> None:
    answer = run("features", task(tmp_path), tmp_path, console=QUIET)
    assert (answer["unread"], answer["without"]) == (["absent.jpg"], [])


def test_a_refusal_of_pycolmap_is_told(tmp_path: Path) -> None:
    with pytest.raises(ColmapFailed, match=r"ended with code 1 at 'features': .*ExistsCameraModelWithName"):
        run("features", task(tmp_path, camera_model="NO_SUCH_MODEL"), tmp_path, console=QUIET)


def test_the_worker_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"do": "features"}')
    with subprocess.Popen(
        [sys.executable, "-P", str(WORKER), str(tmp_path / "task.json"), str(tmp_path / "answer.json")],
        stdin=subprocess.DEVNULL,  # at its end from the start
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.wait(60) == 1
    assert not (tmp_path / "answer.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part of it is Linux's")
def test_the_worker_ends_even_where_its_threads_cannot_run() -> None:
    """PyDLL holds the interpreter's lock while it sleeps, as pycolmap does while it builds a tree."""
    busy = (
        "import ctypes; from crater_ray_colmap import worker; worker.end_with_parent(); "
        "print('busy', flush=True); ctypes.PyDLL(None).sleep(1000)"
    )
    parent = (
        "import subprocess, sys; "
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, busy], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"busy\n"
        process.kill()
        assert process.stdout.read() == b""  # at its end only when the worker has closed it as well


def test_last_words_are_the_loud_ones(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "I20260101 file.cc:1] step\nF20260101 file.cc:9] Check failed\n*** Aborted\n    @ 0x0 main\n"
    )
    assert last_words(log) == "F20260101 file.cc:9] Check failed"
    log.write_text("I20260101 file.cc:1] step\nterminate called\n  what(): odd\n    @ 0x0 main\n")
    assert last_words(log) == "terminate called | what(): odd"
    log.write_text("")
    assert last_words(log) == "it said nothing"
