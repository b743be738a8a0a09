"""Reader `craterbench`, over our layout and the published one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from crater_ray.errors import BadImage, ReaderError
from crater_ray.plugins import Reader, registry
from crater_ray.testing import check_reader
from crater_ray.types import Item
from crater_ray_craterbench.layout import Entry, write_layout
from crater_ray_craterbench.reader import CraterBench


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    gallery = [
        Entry(f"images/gallery/{crater}_{view}.jpg", crater, view)
        for crater in "cba"
        for view in ("3x", "2x")
    ]
    query = [Entry(f"images/query/a_{number}.jpg", "a", str(number)) for number in range(3)]
    for entry in (*gallery, *query):
        path = tmp_path / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(path)
    train = [entry for entry in gallery if entry.crater_id == "c"]
    write_layout(tmp_path, gallery=gallery, query=query, train=train, relevance={"a": ["b", "elsewhere"]})
    return tmp_path


def items(reader: CraterBench) -> list[Item]:
    return [item for part in reader.parts() for item in reader.read(part)]


def test_the_gallery_is_listed_by_path(bench: Path) -> None:
    reader = CraterBench(bench)
    assert isinstance(reader, Reader)
    listed = items(reader)
    assert [item.id for item in listed] == [
        f"images/gallery/{one}.jpg" for one in ("a_2x", "a_3x", "b_2x", "b_3x", "c_2x", "c_3x")
    ]
    assert [item.group for item in listed] == list("aabbcc")
    assert all(item.uri == item.id and item.relevant == {} and "-" in item.stamp for item in listed)
    assert [item.columns["view"] for item in listed[:2]] == ["2x", "3x"]
    assert reader.columns.names == ["view"]
    assert reader.load(listed[0].uri) == (bench / listed[0].uri).read_bytes()
    assert listed == items(CraterBench(bench))


def test_queries_carry_what_is_relevant_in_the_gallery(bench: Path) -> None:
    listed = items(CraterBench(bench, split="query"))
    assert [item.id for item in listed] == [f"images/query/a_{number}.jpg" for number in range(3)]
    assert all(item.relevant == {"a": 1.0, "b": 1.0} for item in listed)


def test_the_train_split(bench: Path) -> None:
    assert {item.group for item in items(CraterBench(bench, split="train"))} == {"c"}


def test_an_image_that_is_missing_is_a_bad_image(bench: Path) -> None:
    (bench / "images/gallery/a_2x.jpg").unlink()
    reader = CraterBench(bench)
    assert items(reader)[0].stamp == "gone"
    with pytest.raises(BadImage, match="gone"):
        reader.load("images/gallery/a_2x.jpg")


def edit(bench: Path, **keys: object) -> None:
    path = bench / "splits/test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_folders_that_do_not_hold_say_why(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="not in the CraterBench-R layout"):
        CraterBench(tmp_path / "none").parts()
    twice = [{"path": "images/gallery/a.jpg", "crater_id": "a"}] * 2
    edit(bench, gallery_images=twice)
    with pytest.raises(ReaderError, match="listed twice in the gallery split"):
        CraterBench(bench).parts()
    edit(bench, gallery_images=[{"path": "../a.jpg", "crater_id": "a"}])
    with pytest.raises(ReaderError, match="leads out of"):
        CraterBench(bench).parts()
    edit(bench, gallery_images=[])
    with pytest.raises(ReaderError, match=r"gallery split .* is empty"):
        CraterBench(bench).parts()
    with pytest.raises(ReaderError, match="no part 'x'"):
        list(CraterBench(bench, split="train").read("x"))


def test_an_archive_left_packed_is_named(bench: Path) -> None:
    (bench / "images").rename(bench / "elsewhere")
    with pytest.raises(ReaderError, match=r"unpack images\.zip"):
        CraterBench(bench).parts()


def test_it_is_reached_through_the_registry(bench: Path) -> None:
    ref = registry().ref("reader", "craterbench", {"root": ".", "split": "query"}, base=bench)
    assert len(items(registry().build(ref))) == 3


def test_it_keeps_a_reader_s_promises(bench: Path) -> None:
    for split in ("gallery", "query", "train"):
        check_reader(CraterBench(bench, split))  # type: ignore[arg-type]


def test_listing_and_validating_import_neither_torch_nor_ray(bench: Path) -> None:
    program = (
        "import sys; from crater_ray_craterbench.layout import validate_layout; "
        "from crater_ray_craterbench.reader import CraterBench; validate_layout(sys.argv[1]); "
        "CraterBench(sys.argv[1]).parts(); sys.exit({'torch', 'ray'} & set(sys.modules) != set())"
    )
    subprocess.run([sys.executable, "-c", program, str(bench)], check=True)
