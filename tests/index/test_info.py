"""What `info` says of skipped images."""

from __future__ import annotations

from crater_ray.index.info import _skipped


def test_a_reason_is_shown_as_it_was_given() -> None:
    items = {"a": "no data: 34% of it; see there", "b": "flat", "c": "no data: 50% of it", "d": "flat"}
    assert _skipped(items) == "4: 2 such as no data: 34% of it; 2 flat"
    assert _skipped({}) == "0"
