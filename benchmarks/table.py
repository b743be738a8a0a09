"""What the benchmarks share: interleaved timing, the machine, a table for people and an object for others."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

WANTED = {"avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "BF16"}  # /proc/cpuinfo flag: name


@dataclass(frozen=True)
class Report:
    """One run: a table, the keys that --json prints, and what a reader must know beside them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    keys: Mapping[str, float]
    wanted: Mapping[str, str] = field(default_factory=dict)  # key: what the project asks of it
    notes: Sequence[str] = ()


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with --json, --markdown and --threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one object instead of the table")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/benchmarks has it")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of torch and of the peers (default 1)"
    )
    return parser


def interleaved(
    methods: Mapping[str, Callable[[], object]],
    rounds: int,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every method in every round; each method is called once unmeasured, then once measured.

    In turns (A, B, A, B …), since the machine may be shared: compare within a round, then take the median. A
    method with a function in `before` is not warmed up: that function runs instead.
    """
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            (before or {}).get(name, method)()
            started = time.perf_counter()
            method()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over the rounds of numerator / denominator."""
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def machine() -> dict[str, Any]:
    """The processor, its cores, and what it lacks of what the numbers were set for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    return {
        "processor": told.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "lacks": [name for flag, name in WANTED.items() if flag not in flags],
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit that is checked out here, and whether files were changed since."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--exclude=*", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def footer(command: str, **versions: str) -> str:
    """The line below a table: CPU, versions, date, commit, command."""
    here = machine()
    lacks = f"; it LACKS {', '.join(here['lacks'])}, so expect other ratios" if here["lacks"] else ""
    cpu = f"{here['processor']}, {here['cores']} cores{lacks}"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{cpu}. {packages + '. ' if packages else ''}{date.today()}, commit {commit()}. `{command}`"


def show(report: Report, options: argparse.Namespace, **versions: str) -> None:
    """Prints the table, or one object with the keys, machine, date and command."""
    here = {**machine(), **versions}
    command = shlex.join(["python", *(word for word in sys.argv if word != "--markdown")])
    if options.json:
        rounded = {key: round(value, 4) for key, value in report.keys.items()}
        print(json.dumps({**rounded, "machine": here, "date": date.today().isoformat(), "command": command}))
        return
    cells = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in report.rows]
    found = [
        f"{key} = {value:.4g}" + (f" (asked for: {report.wanted[key]})" if key in report.wanted else "")
        for key, value in report.keys.items()
        if not options.markdown or key in report.wanted or len(report.keys) < 9
    ]
    made = footer(command, **versions)
    if options.markdown:
        lines = [report.columns, ["---", *["---:"] * (len(report.columns) - 1)], *cells]
        print("\n".join("| " + " | ".join(line) + " |" for line in lines))
        print("\n" + "\n".join(f"- {line}" for line in [*found, *report.notes]))
        print(f"\n{made}")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=report.title)
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in cells:
        table.add_row(*row)
    console.print(table)
    for line in [*found, *report.notes, made]:
        console.print(line, highlight=False)
