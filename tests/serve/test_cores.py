"""A pass has the cores that are free, and those of the dead are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crater_ray.serve.threads import Cores

HOLD = """
import sys
from pathlib import Path
from crater_ray.serve.threads import Cores
with Cores(Path(sys.argv[1]), cores=2).lent(2):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lone_pass_has_every_core_it_wants_and_later_ones_what_is_left(tmp_path: Path) -> None:
    first, second, third = (Cores(tmp_path, cores=4) for _ in range(3))
    with first.lent(3) as one, second.lent(3) as two, third.lent(3, wait=0.0) as three:
        assert (one, two, three) == (3, 1, 0)
    with third.lent(8, wait=0.0) as every:
        assert every == 4


def test_a_killed_process_gives_its_cores_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "held\n"
    cores = Cores(tmp_path, cores=2)
    with cores.lent(2, wait=0.0) as held:
        assert held == 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with cores.lent(2, wait=0.0) as held:
        assert held == 2


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="TMPDIR"):
        Cores(tmp_path / "link")


def test_one_who_starts_leaves_the_first_core_to_those_who_answer(tmp_path: Path) -> None:
    starting, answering, alone = Cores(tmp_path, cores=2), Cores(tmp_path, cores=2), Cores(tmp_path, cores=1)
    with starting.lent(1, left=1) as one, answering.lent(2) as other:
        assert (one, other) == (1, 1)
    with answering.lent(1) as one, starting.lent(2, left=1) as other:
        assert (one, other) == (1, 1)
    with alone.lent(1, left=1) as none, alone.lent(1) as one:
        assert (none, one) == (0, 1)
