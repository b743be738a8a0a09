"""Regenerates docs/results.md: `python benchmarks/results.py [NAME …]` replaces the named sections."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results.md"
COMMANDS = {  # section: the command that prints it
    "embed": "benchmarks/embed.py",
    "memory": "benchmarks/embed.py --memory --images 20000 --threads 2",
    "rerank": "benchmarks/rerank.py",
    "store": "benchmarks/store.py",
    "stages": "benchmarks/stages.py indexes/moon20k near=indexes/moon20k/queries@1 "
    "any=indexes/moon20k/queries@2",
    "first_look": "benchmarks/first_look.py --threads 2 --keep indexes/first_look",
}


def main() -> None:
    names = sys.argv[1:] or list(COMMANDS)
    unknown = sorted(set(names) - set(COMMANDS))
    if unknown:
        sys.exit(f"no section {unknown[0]!r}; there are: {', '.join(COMMANDS)}")
    for name in names:
        print(f"{name}: python {COMMANDS[name]}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, *shlex.split(COMMANDS[name]), "--markdown"],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{name} failed")
        replace(name, done.stdout.strip())


def replace(name: str, text: str) -> None:
    """Puts the text between the section's marks."""
    page = RESULTS.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{RESULTS.name} has no marks <!-- {name} --> … <!-- /{name} -->")
    RESULTS.write_text(pattern.sub(lambda mark: f"{mark[1]}{text}\n{mark[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
