"""Requests that the pages show are taken by the service, and the Python of the README runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crater_ray.serve import models

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from blocks import ROOT, blocks, commands

Rigs = Callable[..., Any]
FORM = re.compile(r"request=(\{.*\})")
CURLS = [
    (str(block), words)
    for block in blocks("sh", "console", "")
    for words in commands(block)
    if words[0] == "curl" and any("/v1/" in word for word in words)
]
BODIES = {
    "/v1/search": models.SearchBody,
    "/v1/search/batch": models.BatchBody,
    "/v1/index/version": models.VersionBody,
}


@pytest.mark.parametrize("words", [words for _, words in CURLS], ids=[where for where, _ in CURLS])
def test_a_request_that_a_page_shows_is_one_of_the_service(rig: Rigs, words: list[str]) -> None:
    path = next(re.sub(r".*?(?=/v1/)", "", word).partition("?")[0] for word in words if "/v1/" in word)
    given = dict(zip(words, [*words[1:], ""], strict=True))
    method = given.get("-X", "POST" if {"-d", "-F"} & given.keys() else "GET").lower()
    routes = rig(token=False).client.get("/openapi.json").json()["paths"]
    fits = [route for route in routes if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path)]
    assert any(method in routes[route] for route in fits), f"{method} {path}"
    if "-d" in given:
        BODIES[path].model_validate_json(given["-d"])
    for form in filter(None, map(FORM.fullmatch, words)):
        models.Options.model_validate_json(form[1])


def test_the_python_of_the_readme_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block for block in blocks("python") if block.page == ROOT / "README.md"]
    assert shown
    monkeypatch.chdir(tmp_path)
    (tmp_path / "indexes").mkdir()
    (tmp_path / "indexes" / "moon").symlink_to(root)
    photo = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(photo, "PNG")
    (tmp_path / "photo.png").write_bytes(photo.getvalue())
    for block in shown:
        exec(compile(block.text, str(block), "exec"), {})
