"""Runs tutorials: writes their job files, runs their commands, and puts what they print below them.

    python docs/walk.py [PAGE …] [--check] [--moon ../shared/data/moon] [--keep FOLDER]

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
PAGES = ("own-mosaic", "merge")  # of docs/tutorial
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
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"of {', '.join(PAGES)}; all if left out")
    parser.add_argument("--check", action="store_true", help="compare; change nothing")
    parser.add_argument("--moon", type=Path, default=MOON, help="the folder with the Moon's data")
    parser.add_argument("--keep", type=Path, help="work here, and leave what was made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "moon").exists():
            (folder / "moon").symlink_to(options.moon.resolve())
        wrong = [line for page in options.pages or PAGES for line in _page(page, folder, options.check)]
    if wrong:
        sys.exit("\n".join(wrong))


def _page(name: str, folder: Path, check: bool) -> list[str]:
    """Writes the page anew, or the lines by which it differs from what is printed now."""
    page = HERE / "tutorial" / f"{name}.md"
    before = page.read_text(encoding="utf-8")
    after = walked(before, folder)
    if check:
        return list(
            difflib.unified_diff(before.splitlines(), after.splitlines(), page.name, "printed now", "", "", 1)
        )
    page.write_text(after, encoding="utf-8")
    for picture, made in PICTURES.items():
        if (folder / made).exists():
            Image.open(folder / made).convert("RGB").save(HERE / "pictures" / picture, quality=85)
    return []


if __name__ == "__main__":
    main()
