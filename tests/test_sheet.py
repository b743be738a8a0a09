"""The sheet: it draws what it was given, and says what it cannot draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import UserError
from crater_ray.sheet import SheetHit, SheetRow, draw


def plain(shade: int, height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


def rows(correct: bool | None, similarity: float = 0.9) -> list[SheetRow]:
    line = ((0.25, 0.5), (0.75, 0.5), similarity)
    return [SheetRow(plain(120), "query", [SheetHit(plain(80), "hit", 0.5, correct, [line])])]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has(picture: np.ndarray, colour: tuple[int, int, int], slack: int = 12) -> bool:
    return bool((np.abs(picture - colour).max(2) < slack).sum() > 50)


@pytest.mark.parametrize(
    ("correct", "green", "red"), [(True, True, False), (False, False, True), (None, False, False)]
)
def test_the_frame_tells_the_truth_where_it_is_known(
    tmp_path: Path, correct: bool | None, green: bool, red: bool
) -> None:
    picture = pixels(draw(rows(correct), tmp_path / "sheet.png", title="moon"))
    assert (has(picture, (0x1A, 0x8F, 0x3C)), has(picture, (0xD0, 0x32, 0x38))) == (green, red)


def test_matched_tokens_are_linked(tmp_path: Path) -> None:
    linked = pixels(draw(rows(None), tmp_path / "a.png", title="moon"))
    bare = pixels(
        draw(
            [SheetRow(plain(120), "query", [SheetHit(plain(80), "hit", 0.5)])],
            tmp_path / "b.png",
            title="moon",
        )
    )
    changed = np.abs(linked - bare).max(2) > 20
    across = changed.any(0).nonzero()[0]
    assert len(across) > 0.9 * (across[-1] - across[0])  # one line from the query's dot to the hit's
    assert changed.any(1).sum() < 0.2 * len(changed)


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    first, second = (draw(rows(True), tmp_path / name, title="moon").read_bytes() for name in "ab")
    assert first == second


def test_rows_of_any_shape_size_and_label(tmp_path: Path) -> None:
    hits = [
        SheetHit(plain(9, 900, 30), "a $ _ name 月 " * 9, -0.1, lines=[((0, 0), (1, 1), -0.5)]),
        SheetHit(plain(9, 1, 1), "", 0.0),
    ]
    sheet = draw(
        [SheetRow(plain(99, 30, 700), "q", hits), SheetRow(plain(0), "no hit\nat all", [])],
        tmp_path / "sheet",
        title="$x^{\\frac" * 30,
    )
    assert pixels(sheet).shape[0] > 500


def test_nothing_to_draw_is_a_sheet_with_a_title(tmp_path: Path) -> None:
    assert pixels(draw([], tmp_path / "sheet.png", title="moon")).min() < 60


def test_a_very_long_sheet_stays_readable_by_image_tools(tmp_path: Path) -> None:
    row = SheetRow(plain(7, 4, 4), "q", [])
    assert pixels(draw([row] * 120, tmp_path / "sheet.png", title="moon")).shape[0] <= 32_000


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_image_that_is_none(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 images"):
        draw([SheetRow(image, "q", [])], tmp_path / "sheet.png", title="moon")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the sheet"):
        draw([], tmp_path / "missing" / "sheet.png", title="moon")
