"""Seconds from a command to its answer, where nothing is to be encoded: each a fresh process, in turns.

    python benchmarks/start.py docs/demo/job.toml [--rounds 3] [--json]

The job's index and its queries must be there (`make demo`). Says too whether a command has imported Ray.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from table import Report, arguments, interleaved, show

ASKED = 3.0  # seconds, of every command but plan, which lists all items
TRIED = """
import sys
from crater_ray.cli import main
try:
    main({!r})
except SystemExit as end:
    sys.exit(end.code or (3 if "ray" in sys.modules else 0))
"""


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("job", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    job = str(told.job)
    from crater_ray import load_job, open_index

    asked = open_index(load_job(told.job).out).ids[0]
    commands = {
        "index, nothing to do": ["index", job],
        "query --id": ["query", job, "--id", asked],
        "info": ["info", job],
        "verify": ["verify", job],
        "evaluate, all encoded": ["evaluate", job, "--mode", "shortlist"],
        "plan": ["plan", job],
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(told.threads)}
    with_ray = {name: answered(words, environment) for name, words in commands.items()}
    calls = {name: partial(answered, words, environment) for name, words in commands.items()}
    seconds = {name: median(all) for name, all in interleaved(calls, told.rounds).items()}
    show(
        Report(
            "Seconds from a command to its answer",
            ("command", "seconds", "imports Ray"),
            [(name, f"{seconds[name]:.2f}", "yes" if with_ray[name] else "no") for name in commands],
            {f"{name.split()[0].strip(',')}_seconds": value for name, value in seconds.items()},
            {f"{name.split()[0].strip(',')}_seconds": f"≤ {ASKED:g}" for name in commands if name != "plan"},
            ("Each is a process of its own, python with what it imports; files are in the page cache.",),
        ),
        told,
    )


def answered(words: list[str], environment: dict[str, str]) -> bool:
    """Whether the command imported Ray. Raises CalledProcessError where it fails."""
    call = [sys.executable, "-c", TRIED.format(words)]
    done = subprocess.run(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        raise subprocess.CalledProcessError(done.returncode, call, stderr=done.stderr)
    return done.returncode == 3


if __name__ == "__main__":
    main()
