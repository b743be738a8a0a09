"""The CraterBench-R layout: what is written is read back, other key names are read, problems are told."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from crater_ray import files
from crater_ray.errors import ReaderError, StorageFull
from crater_ray_craterbench.layout import Entry, read_layout, validate_layout, write_layout

GALLERY = [
    Entry(f"images/gallery/{crater}_{view}.jpg", crater, view) for crater in "abcd" for view in ("2x", "3x")
]
QUERY = [
    Entry(f"images/query/{crater}_{number}.jpg", crater, f"view{number}")
    for crater in "ab"
    for number in (1, 2)
]
TRAIN = [entry for entry in GALLERY if entry.crater_id == "d"]
RELEVANCE = {"a": ["a", "c", "far"], "b": []}


def images(root: Path, *entries: Entry) -> None:
    for entry in entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 128).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    images(tmp_path, *GALLERY, *QUERY)
    write_layout(
        tmp_path, gallery=GALLERY, query=QUERY, train=TRAIN, relevance=RELEVANCE, stats={"body": "Moon"}
    )
    return tmp_path


def load(root: Path, name: str) -> Any:
    return json.loads((root / name).read_text())


def save(root: Path, name: str, content: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


# what is written is read


def test_what_is_written_is_read_back(root: Path) -> None:
    assert read_layout(root, "gallery") == GALLERY
    assert read_layout(root, "train") == TRAIN
    expected = {"a": ("a", "c"), "b": ("b",)}
    assert read_layout(root, "query") == [replace(one, relevant=expected[one.crater_id]) for one in QUERY]
    assert validate_layout(root) == []


def test_the_files_have_the_published_names_and_counts(root: Path) -> None:
    assert load(root, "metadata/stats.json") == {
        "body": "Moon",
        "release_version": "crater_ray_v1",
        "official": {
            "gallery_images": 8,
            "gallery_crater_ids": 4,
            "query_images": 4,
            "query_crater_ids": 2,
            "train_images": 2,
            "train_crater_ids": 1,
            "raw_multilabel_query_ids": 1,
            "filtered_multilabel_query_ids": 1,
            "max_filtered_relevant_ids": 2,
        },
    }
    assert load(root, "splits/train.json")["gallery_images"][0] == {
        "image_id": "d_2x",
        "path": "images/gallery/d_2x.jpg",
        "crater_id": "d",
        "view_type": "2x",
    }
    with (root / "metadata/source/retrieval_ground_truth_raw.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [["query_crater_id", "relevant_crater_ids"], ["a", "a;c;far"], ["b", "b"]]
    assert sorted(path.name for path in root.rglob(".*")) == []


def test_a_query_may_carry_its_own_relevant_ids(tmp_path: Path) -> None:
    query = [replace(QUERY[0], relevant=("a", "b")), QUERY[1]]
    write_layout(tmp_path, gallery=GALLERY, query=query, train=(), relevance=RELEVANCE, stats={})
    assert [entry.relevant for entry in read_layout(tmp_path, "query")] == [("a", "b"), ("a", "c")]
    assert read_layout(tmp_path, "train") == []


def test_writing_twice_gives_the_same_bytes(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    write_layout(root, gallery=GALLERY, query=QUERY, train=TRAIN, relevance=RELEVANCE, stats={"body": "Moon"})
    assert before == {path: path.read_bytes() for path in root.rglob("*.json")}


@pytest.mark.parametrize("path", ["/abs.jpg", "../up.jpg", "images/../../up.jpg", "", "C:/x.jpg"])
def test_paths_outside_are_not_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not below the root"):
        write_layout(tmp_path, gallery=[Entry(path, "a")], query=[], train=[], relevance={}, stats={})


def test_a_full_disk_leaves_what_was_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(root, "splits/test.json")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageFull, match="no room left while writing"):
        write_layout(root, gallery=GALLERY[:2], query=QUERY, train=[], relevance={}, stats={})
    assert load(root, "splits/test.json") == before
    assert sorted(path.name for path in root.rglob(".*")) == []


# other names are read


@pytest.mark.parametrize(
    ("lists", "path", "crater"),
    [
        (("gallery", "query"), "path", "id"),
        (("gallery_images", "query_images"), "image_path", "label"),
        (("test_gallery", "test_queries"), "file_name", "crater"),
        (("Gallery", "Queries"), "path", "crater_id"),
    ],
)
def test_other_key_names_are_read(root: Path, lists: tuple[str, str], path: str, crater: str) -> None:
    def records(entries: list[Entry]) -> list[dict[str, str]]:
        return [{path: entry.path, crater: entry.crater_id} for entry in entries]

    save(root, "splits/test.json", {"version": 1, lists[0]: records(GALLERY), lists[1]: records(QUERY)})
    save(root, "splits/train.json", records(TRAIN))  # a bare list
    assert [entry.path for entry in read_layout(root, "gallery")] == [entry.path for entry in GALLERY]
    assert [entry.relevant for entry in read_layout(root, "query")] == [("a", "c")] * 2 + [("b",)] * 2
    assert [entry.crater_id for entry in read_layout(root, "train")] == ["d", "d"]


def test_lists_one_object_deeper_are_read(root: Path) -> None:
    content = load(root, "splits/test.json")
    save(
        root,
        "splits/test.json",
        {"splits": {"gallery": content["gallery_images"], "query": content["query_images"]}},
    )
    assert read_layout(root, "gallery") == GALLERY
    assert len(read_layout(root, "query")) == 4


@pytest.mark.parametrize(
    "relevance",
    [
        {"a": ["a", "c"], "b": ["b"]},
        {"a": ["c", "unknown"], "b": []},  # raw, its own left out
        {
            "a": {"raw_co_visible_ids": ["a", "c", "z"], "gallery_relevant_ids": ["a", "c"]},
            "b": {"gt": ["b"]},
        },
        {"a": {"co_visible": ["a", "c", "z"]}, "b": {"co_visible": ["b"]}},
        {"version": "v1", "queries": {"a": {"relevant_ids": ["a", "c"]}, "b": {"relevant_ids": ["b"]}}},
        {
            "version": "v1",
            "notes": {"x": 1},
            "query_relevance": [{"query_id": "a", "gt": ["c"]}, {"query_id": "b", "gt": ["b"]}],
        },
        [{"crater_id": "a", "relevant_ids": ["a", "c"]}, {"crater_id": "b", "relevant_ids": {"b": 1.0}}],
        {"a_1": ["c"], "a_2": ["c"], "images/query/b_1.jpg": ["b"], "b_2": ["b"]},  # by image
    ],
)
def test_every_form_of_query_relevance_is_read(root: Path, relevance: object) -> None:
    save(root, "metadata/query_relevance.json", relevance)
    assert [entry.relevant for entry in read_layout(root, "query")] == [("a", "c")] * 2 + [("b",)] * 2


@pytest.mark.parametrize("key", ["relevant_ids", "gt", "co_visible", "filtered_relevant_ids"])
def test_relevance_on_the_queries_themselves_is_read(root: Path, key: str) -> None:
    content = load(root, "splits/test.json")
    for record in content["query_images"]:
        record[key] = ["c"]
    save(root, "splits/test.json", content)
    (root / "metadata/query_relevance.json").unlink()
    assert {entry.relevant for entry in read_layout(root, "query")} == {("a", "c"), ("b", "c")}


# what cannot be read says where


@pytest.mark.parametrize(
    ("name", "content", "split", "message"),
    [
        ("splits/test.json", None, "gallery", "does not exist; .* not in the CraterBench-R layout"),
        ("splits/train.json", None, "train", "train.json does not exist"),
        ("splits/test.json", "{", "gallery", "test.json cannot be read"),
        ("splits/test.json", '{"gallery": []', "query", "test.json cannot be read"),
        (
            "splits/test.json",
            '{"images": []}',
            "gallery",
            "one list of images called gallery_images; it has 'im",
        ),
        ("splits/test.json", "7", "gallery", "no list of images at all"),
        ("splits/test.json", '{"gallery": [3]}', "gallery", r"gallery\[0\] is int"),
        (
            "splits/test.json",
            '{"gallery": [{"crater_id": "a"}]}',
            "gallery",
            r"no path .* it has 'crater_id'",
        ),
        ("splits/test.json", '{"gallery": [{"path": "x.jpg"}]}', "gallery", "image 0 has no crater_id"),
        ("metadata/query_relevance.json", None, "query", "query_relevance.json does not exist"),
        ("metadata/query_relevance.json", '{"a": ["a"]}', "query", "says nothing of crater 'b'"),
        ("metadata/query_relevance.json", '{"a": {"x": 1}}', "query", "a: no relevant ids"),
        ("metadata/query_relevance.json", '{"a": [["a"]]}', "query", "must be a list of crater ids"),
        ("metadata/query_relevance.json", '[["a"]]', "query", "an entry has no crater_id"),
        ("metadata/query_relevance.json", "3", "query", "must hold an object or a list"),
    ],
)
def test_what_cannot_be_read_names_file_and_key(
    root: Path, name: str, content: str | None, split: Any, message: str
) -> None:
    if content is None:
        (root / name).unlink()
    else:
        (root / name).write_text(content)
    with pytest.raises(ReaderError, match=message):
        read_layout(root, split)


def test_bytes_that_are_not_text(root: Path) -> None:
    (root / "splits/test.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReaderError, match="cannot be read"):
        read_layout(root, "gallery")


# validating


def problem(root: Path, *words: str) -> None:
    found = validate_layout(root)
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found
    assert "\n" not in found[0]


def change(root: Path, name: str, split: str, **keys: object) -> None:
    content = load(root, name)
    content[f"{split}_images"][0].update(keys)
    save(root, name, content)


def test_images_are_checked_by_their_headers(root: Path) -> None:
    path = root / GALLERY[0].path
    path.write_bytes(b"")
    problem(root, "gallery", GALLERY[0].path, "is an empty file")
    path.write_bytes(b"no image")
    problem(root, GALLERY[0].path, "is not an image that can be read")
    path.unlink()
    problem(root, GALLERY[0].path, "does not exist")


def test_paths_are_checked(root: Path) -> None:
    change(root, "splits/test.json", "query", path="../a_1.jpg")
    problem(root, "query", "'../a_1.jpg' leads out of the folder")
    change(root, "splits/test.json", "query", path=QUERY[1].path)
    problem(root, QUERY[1].path, "is listed twice")
    change(root, "splits/test.json", "query", path=GALLERY[0].path)
    problem(root, GALLERY[0].path, "is in the gallery and among the queries")


def test_relevance_is_checked(root: Path) -> None:
    save(root, "metadata/query_relevance.json", {"a": {"relevant_ids": ["a", "nowhere"]}, "b": ["b"]})
    problem(root, "query crater 'a' names 'nowhere'")


def test_a_query_without_a_relevant_crater(tmp_path: Path) -> None:
    query = Entry("images/query/q.jpg", "q")
    images(tmp_path, *GALLERY, query)
    write_layout(tmp_path, gallery=GALLERY, query=[query], train=[], relevance={}, stats={})
    problem(tmp_path, "query crater 'q' has no relevant crater in the gallery")


@pytest.mark.parametrize("crater", ["a", "c"])  # queried, and relevant to a query
def test_the_train_split_may_not_touch_the_test_closure(root: Path, crater: str) -> None:
    train = [entry for entry in GALLERY if entry.crater_id == crater]
    write_layout(root, gallery=GALLERY, query=QUERY, train=train, relevance=RELEVANCE, stats={})
    problem(root, "train.json", f"crater {crater!r} is relevant to a test query")


def test_statistics_are_checked(root: Path) -> None:
    content = load(root, "metadata/stats.json")
    content["official"]["gallery_images"] = 9
    save(root, "metadata/stats.json", content)
    problem(root, "gallery_images is 9, but the splits hold 8")
    save(root, "metadata/stats.json", {"gallery_images": 8})  # flat is fine too
    assert validate_layout(root) == []
    save(root, "metadata/stats.json", [])
    problem(root, "must hold an object of counts")
    (root / "metadata/stats.json").unlink()
    problem(root, "stats.json does not exist")


def test_what_is_missing_is_told_once(root: Path, tmp_path: Path) -> None:
    (root / "splits/test.json").unlink()
    problem(root, "test.json does not exist")
    problem(tmp_path / "none", "is not a folder")


def test_an_empty_split_is_a_problem(root: Path) -> None:
    content = load(root, "splits/test.json")
    save(root, "splits/test.json", content | {"query_images": []})
    save(root, "metadata/stats.json", {})
    problem(root, "the query split is empty")


def test_everything_wrong_is_told_at_once(root: Path) -> None:
    for entry in GALLERY[:3]:
        (root / entry.path).unlink()
    (root / QUERY[0].path).write_bytes(b"")
    assert len(validate_layout(root)) >= 4
