"""What holds of the page's files themselves: no browser is needed to see it."""

from __future__ import annotations

import re

import pytest

from crater_ray.serve.application import EXPLORER

FILES = sorted(EXPLORER.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
SHEET = EXPLORER / "explorer.css"


def test_only_what_is_served() -> None:
    assert {file.suffix for file in FILES} == {".html", ".css", ".js", ".svg"}


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (EXPLORER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_comes_from_another_host(file: object) -> None:
    text = file.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_small_and_read_no_markup_and_name_no_colours(file: object) -> None:
    text = file.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert text.count("\n") <= 230
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"#[0-9a-fA-F]{6}\b|\brgba?\(|\bhsla?\(", text)
    for name in re.findall(r"from \"\./([^\"]+)\"", text):
        assert (EXPLORER / name).is_file()


def test_colours_stand_in_variables_alone() -> None:
    sheet = re.sub(r"/\*.*?\*/", "", SHEET.read_text(encoding="utf-8"), flags=re.DOTALL)
    rules = re.sub(r"--[a-z-]+:[^;]+;", "", sheet)
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(", rules)
    used = set(re.findall(r"var\(--([a-z-]+)\)", sheet))
    for script in SCRIPTS:
        for names in re.findall(r"colours\(([^)]*)\)", script.read_text(encoding="utf-8")):
            used |= set(re.findall(r"\"([a-z-]+)\"", names))
    named = set(re.findall(r"--([a-z-]+):", sheet))
    assert used <= named
    assert named - used == set()
