"""Hooks of MkDocs: pages that lie outside docs/, and links that hold in the repository and on the site."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks.pages")  # a warning ends `mkdocs build --strict`
FENCE = re.compile(r"^(```.*?^```)$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")


def _outside() -> Iterator[tuple[str, str]]:
    """Files of the repository that are pages of the site: path, page."""
    yield "README.md", "index.md"
    for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"):
        yield f"{name}.md", f"develop/{name.lower()}.md"
    yield "cluster/README.md", "packages/cluster.md"
    for path in sorted((ROOT / "plugins").glob("*/README.md")):
        yield str(path.relative_to(ROOT)), f"packages/{path.parent.name}.md"


PAGES = {path: page for path, page in _outside() if (ROOT / path).is_file()}
SOURCES = {page: path for path, page in PAGES.items()}


def on_config(config: MkDocsConfig) -> None:
    """A nav entry `folder/*` stands for every page of that folder."""
    known = [*PAGES.values(), *(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md"))]
    config.nav = _expanded(config.nav, sorted(known))


def _expanded(nav: Any, known: list[str]) -> Any:
    if isinstance(nav, list):
        return [_expanded(entry, known) for entry in nav]
    if isinstance(nav, dict):
        return {title: _expanded(entry, known) for title, entry in nav.items()}
    if nav.endswith("/*"):
        return [page for page in known if posixpath.dirname(page) == nav[:-2]]
    return nav


def on_files(files: Files, config: MkDocsConfig) -> None:
    for page, path in SOURCES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Links are written as the repository has them; what is no page keeps its text alone."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        target, mark, anchor = found["target"].partition("#")
        if not target or ":" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        uri = PAGES.get(path, path.removeprefix("docs/"))
        if (path in PAGES or path.startswith("docs/")) and files.get_file_from_path(uri):
            there = posixpath.relpath(uri, posixpath.dirname(here))
            return f"{found['image']}[{found['text']}]({there}{mark}{anchor})"
        if not (ROOT / path).exists():
            LOG.warning("%s links to %s, which is not there", source, target)
        return f"{found['text']} (`{path}`)" if path not in found["text"] else found["text"]

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in FENCE.split(markdown))
