"""Threads that wait sleep soon, wherever the command line computes; what the user says of it stays."""

import os
import subprocess
import sys

import pytest

from crater_ray.waiting import SPIN, brief_spin

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": SPIN}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_environment_says_stays(monkeypatch, given, then):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    brief_spin()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == then


def test_the_command_line_says_so_before_torch_is_there():
    """Read once, when libgomp is loaded: later it would do nothing."""
    code = (
        "import sys, os\n"
        "from crater_ray import cli\n"
        "assert 'torch' not in sys.modules and 'faiss' not in sys.modules\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'faiss' not in sys.modules\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == SPIN
