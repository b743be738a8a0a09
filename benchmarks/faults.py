"""`make chaos`: every fault of tests/ray/chaos, random histories under 20 seeds, as a table.

python benchmarks/faults.py [--seeds 20] [--keep report.xml] [--told report.xml …] [--json]

Each row is a test marked `fault(what, happens)`, which ends with an audit: every item exactly once, and
`verify`. Exit 1 when one fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from table import Report, arguments, show

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1800  # seconds of one test


@dataclass
class Fault:
    """One row: the runs of the tests that have its name."""

    happens: str
    runs: int = 0
    audits: int = 0
    items: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)  # of what failed or was skipped


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--told", type=Path, nargs="+", help="reports of pytest, read instead of a run")
    parser.add_argument("--keep", type=Path, help="where pytest's report is kept")
    given = parser.parse_args()
    if given.told:
        faults = read(given.told)
        show(report(faults, given.seeds), given, ray=version("ray"))
        sys.exit(any(not one.startswith("skipped") for fault in faults.values() for one in fault.notes))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it: tests send it
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--timeout={LIMIT}", "-m", "chaos or not chaos"]
        command += [f"--junitxml={told}", "-o", "junit_family=xunit1", "tests/ray/chaos"]
        environment = {**os.environ, "CRATER_RAY_CHAOS_SEEDS": str(given.seeds)}
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode
        if not told.exists():
            sys.exit(code or 1)
        if given.keep:
            given.keep.write_bytes(told.read_bytes())
        faults = read([told])
    show(report(faults, given.seeds), given, ray=version("ray"))
    sys.exit(code)


def read(paths: Sequence[Path]) -> dict[str, Fault]:
    """What was wrong -> what came of it. A test that stands in several reports counts as in the last."""
    every = [case for path in paths for case in xml.parse(path).getroot().iter("testcase")]
    found: dict[str, Fault] = {}
    for case in {(case.get("classname"), case.get("name")): case for case in every}.values():
        properties = [(one.get("name"), one.get("value") or "") for one in case.iter("property")]
        told = dict(properties)
        if "fault" not in told:
            continue
        fault = found.setdefault(told["fault"], Fault(told["happens"]))
        fault.runs += 1
        fault.seconds += float(case.get("time") or 0)
        audited = [int(value) for name, value in properties if name == "audited"]
        fault.audits, fault.items = fault.audits + len(audited), fault.items + sum(audited)
        for word in ("failure", "error", "skipped"):
            for problem in case.iter(word):
                said = " ".join((problem.get("message") or "").split())
                fault.notes.append(f"{word}: {case.get('name')}: {said[:100]}")
    return found


def report(faults: dict[str, Fault], seeds: int) -> Report:
    columns = ("fault", "what happens", "runs", "items audited", "s")
    rows = [
        (what, fault.happens, fault.runs, f"{fault.items:,}" if fault.audits else "-", f"{fault.seconds:.0f}")
        for what, fault in faults.items()
    ]
    keys = {
        "failed": float(
            sum(not one.startswith("skipped") for fault in faults.values() for one in fault.notes)
        ),
        "runs": float(sum(fault.runs for fault in faults.values())),
        "audits": float(sum(fault.audits for fault in faults.values())),
        "items_audited": float(sum(fault.items for fault in faults.values())),
        "minutes": sum(fault.seconds for fault in faults.values()) / 60,
    }
    notes = [f"{seeds} seeds", *(note for fault in faults.values() for note in fault.notes)]
    return Report("Faults", columns, rows, keys, {"failed": "0"}, notes)


if __name__ == "__main__":
    main()
