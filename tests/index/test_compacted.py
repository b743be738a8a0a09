"""Packs: many parts as one for whoever searches, and byte for byte the old ones for whoever grows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crater_ray.errors import DamagedIndex, ReaderError
from crater_ray.files import remove_folder
from crater_ray.index.compacted import (
    PREFIX,
    compact_parts,
    extract,
    listing,
    locations,
    members,
    refuse_prefix,
    settle,
)
from crater_ray.index.parts import done, part_folder
from crater_ray.index.snapshot import Snapshot
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import publish


@pytest.fixture
def version(tmp_path, config, make):
    first = make.index(tmp_path, config, {"a": 3, "b": 4})
    skips = make.part(tmp_path, config, "c", make.items("c", 5), skip={"c/001.jpg": "no image"})
    return make.add(tmp_path, first, skips, make.part(tmp_path, config, "d", []))


def folder_bytes(root, entry):
    folder = part_folder(store_at(root), entry.name, entry.digest)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_pack_has_the_rows_of_its_parts_in_their_order(tmp_path, config, version):
    before = Snapshot(store_at(tmp_path))
    entry = compact_parts(store_at(tmp_path), config, version.parts)
    assert (entry.rows, entry.skipped) == (11, 1)
    publish(store_at(tmp_path), replace(version, number=3, parent=2, parts=(entry,), segments=()))
    after = Snapshot(store_at(tmp_path))
    assert after.items().equals(before.items())
    assert np.array_equal(after.vectors(), before.vectors())
    for one, other in zip(after.gather(np.arange(11)), before.gather(np.arange(11)), strict=True):
        assert np.array_equal(one, other)
    assert verify(store_at(tmp_path)).problems == ()
    assert [member.rows for member in members(store_at(tmp_path), entry)] == [3, 4, 4, 0]


def test_what_is_taken_out_is_byte_for_byte_what_went_in(tmp_path, config, version):
    went_in = {entry.name: folder_bytes(tmp_path, entry) for entry in version.parts}
    compact_parts(store_at(tmp_path), config, version.parts)
    places = locations(store_at(tmp_path))
    for entry in version.parts:
        remove_folder(part_folder(store_at(tmp_path), entry.name, entry.digest))
        assert extract(store_at(tmp_path), config, places[entry.name, entry.digest]) == entry
        assert folder_bytes(tmp_path, entry) == went_in[entry.name]


def test_a_pack_of_packs_has_the_same_members_and_the_same_name_as_one_made_at_once(
    tmp_path, config, version
):
    half = compact_parts(store_at(tmp_path), config, version.parts[:2])
    nested = compact_parts(store_at(tmp_path), config, [half, *version.parts[2:]])
    assert nested == compact_parts(store_at(tmp_path), config, version.parts)
    assert [member.name for member in members(store_at(tmp_path), nested)] == ["a", "b", "c", "d"]


def test_a_version_keeps_a_pack_while_every_member_is_wanted(tmp_path, config, version):
    entry = compact_parts(store_at(tmp_path), config, version.parts[:3])
    packs = publish(store_at(tmp_path), replace(version, number=3, parent=2, parts=(entry, version.parts[3])))
    plain = listing(store_at(tmp_path), packs)
    assert plain == {part.name: part for part in version.parts}
    assert settle(store_at(tmp_path), config, plain.values(), packs) == tuple(
        sorted(packs.parts, key=lambda part: part.name)
    )
    for part in version.parts[:3]:
        remove_folder(part_folder(store_at(tmp_path), part.name, part.digest))
    left = [plain[name] for name in "acd"]
    assert settle(store_at(tmp_path), config, left, packs) == tuple(left)
    assert done(store_at(tmp_path), "a", plain["a"].digest) == plain["a"]
    assert done(store_at(tmp_path), "b", plain["b"].digest) is None  # nobody asked for it


def test_members_of_different_readers_do_not_share_a_pack(tmp_path, config, version):
    entry = compact_parts(store_at(tmp_path), config, version.parts)
    packs = publish(store_at(tmp_path), replace(version, number=3, parent=2, parts=(entry,)))
    mixed = [replace(part, reader=number % 2) for number, part in enumerate(version.parts)]
    assert settle(store_at(tmp_path), config, mixed, packs) == tuple(mixed)
    moved = [replace(part, reader=1) for part in version.parts]
    assert settle(store_at(tmp_path), config, moved, packs) == (replace(entry, reader=1),)


@pytest.mark.parametrize("file", ["codes.bin", "vectors.npy", "scales.npy", "items.parquet"])
def test_damage_does_not_get_a_checksum_of_its_own(tmp_path, config, version, file):
    path = part_folder(store_at(tmp_path), "b", version.parts[1].digest) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedIndex, match=file):
        compact_parts(store_at(tmp_path), config, version.parts)
    assert not list((tmp_path / "parts").glob(f"{PREFIX}*"))
    assert not list((tmp_path / "tmp").iterdir())


def test_one_part_is_no_pack_and_no_reader_may_call_a_part_so(tmp_path, config, version):
    with pytest.raises(ValueError, match="1 parts"):
        compact_parts(store_at(tmp_path), config, version.parts[:1])
    with pytest.raises(ReaderError, match="compacted-"):
        refuse_prefix(["a", "compacted-b"])
