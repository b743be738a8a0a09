"""Runs docs/tutorial/merge.md: writes its job files, runs its commands, and puts what they print below them.

    python docs/walk.py [--check] [--moon ../shared/data/moon] [--keep FOLDER]

--check compares instead, exit 1. A block that begins with `# name` is the file of that name; of a `console`
block, lines that begin with `$ ` are run in the shell, one after the other, in a new folder beside which
`moon` lies.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
PAGE = HERE / "tutorial" / "merge.md"
MOON = HERE.parents[1] / "shared" / "data" / "moon"
PICTURES = {  # beside the page: what it is made of
    "walkthrough-merge.png": "merge/consumed/dedup/report.png",
    "walkthrough-match.jpg": "merge/consumed/match/picture/match.png",
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def walked(text: str, folder: Path) -> str:
    """The page with what its commands print in `folder`. Raises RuntimeError for a command that fails."""

    def run(found: re.Match[str]) -> str:
        kind, body = found[1], found[2]
        first = body.partition("\n")[0]
        if kind != "console":
            if first.startswith("# "):
                (folder / first[2:].strip()).write_text(body, encoding="utf-8")
            return found[0]
        lines = []
        for line in body.splitlines():
            if line.startswith("$ "):
                lines += [line, *printed(line[2:], folder)]
        return "```console\n" + "\n".join(lines) + "\n```"

    return BLOCK.sub(run, text)


def printed(command: str, folder: Path) -> list[str]:
    """Lines that a command prints, paths as seen from the folder; nothing of its progress."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"$ {command}\nexit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout.replace(f"{folder}/", "").rstrip().splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare; change nothing")
    parser.add_argument("--moon", type=Path, default=MOON, help="the folder with the Moon's data")
    parser.add_argument("--keep", type=Path, help="work here, and leave what was made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "moon").exists():
            (folder / "moon").symlink_to(options.moon.resolve())
        before = PAGE.read_text(encoding="utf-8")
        after = walked(before, folder)
        if not options.check:
            PAGE.write_text(after, encoding="utf-8")
            for name, made in PICTURES.items():
                Image.open(folder / made).convert("RGB").save(HERE / "pictures" / name, quality=85)
            return
    if after != before:
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), PAGE.name, "printed now", "", "", 1
        )
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
