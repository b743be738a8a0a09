from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from crater_ray.errors import IndexMismatch
from crater_ray.index.config import create_or_check
from crater_ray.index.fitted import fitted_path, write_fitted
from crater_ray.index.segments import ShortlistSpec, write_segment
from crater_ray.index.store import store_at
from crater_ray.index.verify import verify
from crater_ray.index.versions import latest, publish

KINDS = [
    "index.json",
    "fitted/*.safetensors",
    "parts/a.*/items.parquet",
    "parts/a.*/vectors.npy",
    "parts/b.*/codes.bin",
    "parts/b.*/scales.npy",
    "parts/b.*/part.json",
    "segments/*/segment.json",
    "segments/*/shortlist.faiss",
    "versions/1.json",
    "versions/2.json",
]


@pytest.fixture
def root(tmp_path, config, make):
    config = replace(config, fits={"shortlist": write_fitted(store_at(tmp_path), {"words": np.arange(12.0)})})
    version = make.index(tmp_path, config, {"a": 3, "b": 4})
    make.add(tmp_path, version, make.part(tmp_path, config, "c", make.items("c", 2)))
    return tmp_path


def the(root, pattern):
    found = list(root.glob(pattern))
    assert len(found) == 1
    return found[0], str(found[0].relative_to(root))


def test_a_good_index(root):
    found = verify(store_at(root))
    assert not found.problems
    assert not found.notes
    assert found.files == 1 + 1 + 2 + 3 * 5 + 2
    assert found.bytes > 0


@pytest.mark.parametrize("share", [0.0, 0.31, 0.77, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_its_file_named(root, kind, share):
    path, name = the(root, kind)
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    assert [problem.path for problem in verify(store_at(root)).problems] == [name]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "versions/2.json"])
def test_a_missing_file_is_named(root, kind):
    path, name = the(root, kind)
    path.unlink()
    problems = verify(store_at(root)).problems
    assert problems
    if kind == "versions/1.json":
        assert problems[0].path == "versions/2.json"
        assert "its parent, version 1, is missing" in problems[0].reason
    else:
        assert [problem.path for problem in problems] == [name]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("versions")])
def test_a_short_file_is_named(root, kind):
    path, name = the(root, kind)
    path.write_bytes(path.read_bytes()[:-3])
    assert [problem.path for problem in verify(store_at(root)).problems] == [name]


def test_several_bad_files_are_all_named(root):
    names = []
    for kind in ("parts/a.*/vectors.npy", "parts/b.*/codes.bin", "segments/*/shortlist.faiss"):
        path, name = the(root, kind)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        names.append(name)
    assert sorted(problem.path for problem in verify(store_at(root)).problems) == sorted(names)


def test_what_stage_one_learnt_is_looked_for_once(root, config, make):
    """Two segments share it; only segments name it."""
    version = latest(store_at(root))
    sha = write_fitted(store_at(root), {"centre": np.zeros(3, np.float32)})
    like = ShortlistSpec("Flat", seed=0, m=1, dim=3, fitted=sha)
    halves = tuple(
        write_segment(store_at(root), parts, like) for parts in (version.parts[:2], version.parts[2:])
    )
    publish(store_at(root), replace(version, number=3, parent=2, segments=halves))
    assert not verify(store_at(root)).problems
    fitted_path(store_at(root), sha).unlink()
    assert [problem.path for problem in verify(store_at(root)).problems] == [f"fitted/{sha}.safetensors"]


def test_a_missing_part_and_a_missing_segment(root):
    for kind in ("parts/b.*", "segments/*"):
        shutil.rmtree(the(root, kind)[0])
    found = {
        problem.path.split(".")[0].split("/")[0]: problem.reason
        for problem in verify(store_at(root)).problems
    }
    assert sorted(found) == ["parts", "segments"]
    assert "run `crater-ray index` again" in found["parts"]


def test_a_part_of_another_config_in_its_place(root, tmp_path, config, make):
    """Whole and sealed, yet not what the version lists."""
    path, name = the(root, "parts/b.*")
    other = make.part(tmp_path / "other", config, "b", make.items("b", 3))
    shutil.rmtree(path)
    (tmp_path / "other" / "parts" / other.folder).rename(path)
    problems = [problem for problem in verify(store_at(root)).problems if problem.path.startswith("parts")]
    assert [problem.path for problem in problems] == [name]
    assert "tells of 3 rows" in problems[0].reason


def test_what_nothing_refers_to_is_a_note(root, config, make):
    make.part(root, config, "d", make.items("d", 1))
    (root / "tmp" / "c.123").mkdir()
    (the(root, "parts/a.*")[0] / "x.txt").touch()
    found = verify(store_at(root))
    assert not found.problems
    assert sorted(note.path.split("/")[0] for note in found.notes) == ["parts", "parts", "tmp"]


def test_an_index_whose_first_job_has_not_finished(tmp_path, config, make):
    create_or_check(store_at(tmp_path), config)
    make.part(tmp_path, config, "a", make.items("a", 2))
    found = verify(store_at(tmp_path))
    assert not found.problems
    assert found.notes[0].path == "versions"


def test_not_an_index(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(IndexMismatch, match=r"is not an index: it holds a.jpg"):
        verify(store_at(tmp_path))
    with pytest.raises(IndexMismatch, match="nothing is there"):
        verify(store_at(tmp_path / "nowhere"))
