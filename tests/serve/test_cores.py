"""Cores are lent to as many passes as they have room for, and those of the dead are free."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crater_ray.serve.cores import Cores

HOLD = """
import sys
from pathlib import Path
from crater_ray.serve.cores import Cores
with Cores(2, Path(sys.argv[1]), cores=2).lent():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_as_many_passes_at_once_as_there_is_room_for(tmp_path: Path) -> None:
    first, second, third = (Cores(2, tmp_path, cores=4) for _ in range(3))
    with first.lent() as one, second.lent() as two, third.lent(wait=0.0) as three:
        assert (one, two, three) == (True, True, False)
    with third.lent(wait=0.0) as now:
        assert now


def test_fewer_cores_than_threads_are_still_one_slot(tmp_path: Path) -> None:
    with Cores(8, tmp_path, cores=2).lent(wait=0.0) as held:
        assert held


def test_a_killed_process_gives_its_cores_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "held\n"
    cores = Cores(2, tmp_path, cores=2)
    with cores.lent(wait=0.0) as held:
        assert not held
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with cores.lent(wait=0.0) as held:
        assert held


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="TMPDIR"):
        Cores(1, tmp_path / "link")
