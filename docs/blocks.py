"""The code blocks of every page, and the commands in them: what tests/docs tries."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(?P<kind>[a-z]*)[^\n]*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OPERATORS = re.compile(r"[|&;<>()]+")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str  # what stands after ```; "" where nothing does
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, but for the changelog, which speaks of the past."""
    patterns = ("*.md", "docs/**/*.md", "cluster/*.md", "plugins/*/README.md")
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.stem != "CHANGELOG"})


def blocks(*kinds: str) -> list[Block]:
    """The blocks of these kinds on every page."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["kind"] in kinds:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(page, line, match["kind"], match["text"]))
    return found


def spans() -> list[Block]:
    """What stands between two back quotes within the text."""
    found = []
    for page in pages():
        text = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            found += [Block(page, number, "span", span) for span in SPAN.findall(line)]
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a block, as words; output below a prompt is no command."""
    pending = ""
    for line in block.text.splitlines():
        if not pending and block.kind in {"", "console"}:
            if not line.startswith("$ "):
                continue
            line = line[2:]
        pending = pending + line
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        try:
            yield from _simple(pending)
        except ValueError:  # a quote that another line closes
            pending += "\n"
            continue
        pending = ""
    if pending.strip():
        raise ValueError(f"{block}: a quote is not closed: {pending!r}")


def _simple(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not OPERATORS.fullmatch(word):
            words.append(word)
            continue
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
        if words:
            yield from _inner(words)
        words = []


def _inner(words: list[str]) -> Iterator[list[str]]:
    """A command, and one that it hands to another machine or container."""
    yield words
    for at, word in enumerate(words[1:], 1):
        if word.startswith("crater-ray ") and " " in word:  # ray exec FILE 'crater-ray index …'
            yield from _simple(word)
        elif words[0] == "docker" and word == "crater-ray":
            yield words[at:]
