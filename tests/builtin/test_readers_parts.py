"""Content-defined parts: whole, disjoint, and disturbed in one place by growth."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from crater_ray.errors import ReaderError
from crater_ray.image_files import cut

IDS = st.sets(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6), max_size=60)


def held(ids: list[str], **options: int) -> dict[str, tuple[str, ...]]:
    return {name: tuple(ids[where]) for name, where in cut(ids, **options).items()}


def slow(ids: list[str], mask: int, most: int) -> list[tuple[str, ...]]:
    """The definition, by hand."""
    parts: list[tuple[str, ...]] = []
    now: list[str] = []
    for id in ids:
        now.append(id)
        if xxh64_intdigest(id.encode()) & mask == 0 or len(now) == most:
            parts.append(tuple(now))
            now = []
    return [*parts, tuple(now)] if now else parts


@given(IDS, st.integers(1, 9))
def test_parts_cover_all_ids_in_order(ids: set[str], most: int) -> None:
    ordered = sorted(ids)
    parts = held(ordered, mask=3, most=most)
    assert list(parts.values()) == slow(ordered, 3, most)
    assert [id for part in parts.values() for id in part] == ordered
    assert all(re.fullmatch(r"[0-9a-f]{16}", name) for name in parts)


@given(IDS, st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6))
@settings(max_examples=200)
def test_one_more_id_changes_one_part(ids: set[str], more: str) -> None:
    before = held(sorted(ids), mask=3, most=1000)
    after = held(sorted(ids | {more}), mask=3, most=1000)
    gone = set(before.values()) - set(after.values())
    new = set(after.values()) - set(before.values())
    assert len(gone) <= 1
    assert len(new) <= 2  # the part it fell in, cut in two where its own hash says so
    kept = set(before.values()) & set(after.values())
    names = {part: name for name, part in before.items()}
    assert all(name == names[part] for name, part in after.items() if part in kept)


@given(IDS)
def test_the_longest_part_is_kept_to(ids: set[str]) -> None:
    assert all(len(part) <= 4 for part in held(sorted(ids), mask=1023, most=4).values())


def test_defaults_give_about_512_items_and_disturb_one_part_of_many() -> None:
    ids = [f"{number:06d}" for number in range(50_000)]
    parts = held(ids)
    assert 70 < len(parts) < 140
    assert max(map(len, parts.values())) <= 4096
    more = sorted([*ids, "024999x"])
    assert len(set(held(more).values()) - set(parts.values())) == 1


def test_ids_must_be_sorted_unique_and_utf8() -> None:
    with pytest.raises(ValueError, match="sorted and unique"):
        cut(["b", "a"])
    with pytest.raises(ValueError, match="sorted and unique"):
        cut(["a", "a"])
    with pytest.raises(ReaderError, match="not valid UTF-8"):
        cut(["a\udcff.jpg"])
    assert cut([]) == {}
