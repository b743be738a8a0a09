"""What progress says, of images where their number is known."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest

from crater_ray.jobs.progress import Counter


@pytest.mark.parametrize(
    ("images", "there", "line"),
    [
        (480, 0, "index: 120 of 480 images, 0 of 1 parts, 2.0 images/s, about 180 s left"),
        (480, 300, "index: 420 of 480 images, 0 of 1 parts, 2.0 images/s, about 30 s left"),
        (None, 0, "index: 0 of 1 parts, 120 images, 2.0 images/s"),
    ],
)
def test_images_are_counted_within_a_part(
    images: int | None, there: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch("time.monotonic", lambda: next(clock)):
        clock = itertools.chain([0.0], itertools.repeat(60.0))
        counter = Counter("index", 1, images=images)
        counter.update(0, 120, there)
    assert capsys.readouterr().err == f"{line}\n"
    with patch("time.monotonic", lambda: 60.0), Counter("index", 1, images=4) as counter:
        counter.update(1, 4)
    assert capsys.readouterr().err.startswith("index: 4 of 4 images, 1 of 1 parts, ")
