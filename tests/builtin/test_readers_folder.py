"""Reader `folder`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from crater_ray.builtin.readers.folder import Folder
from crater_ray.errors import BadImage, ReaderError
from crater_ray.plugins import Reader, registry
from crater_ray.types import Item


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def items(reader: Folder) -> list[Item]:
    return [item for part in reader.parts() for item in reader.read(part)]


def ids(reader: Folder) -> list[str]:
    return [item.id for item in items(reader)]


def test_images_below_a_folder_are_items_with_relative_ids(tmp_path: Path) -> None:
    put(tmp_path, "b.JPG", "a/deep/one.png", "a/two.tif", "é è.webp")
    put(tmp_path, "notes.txt", ".hidden.png", ".cache/x.png")
    reader = Folder(tmp_path)
    assert isinstance(reader, Reader)
    assert ids(reader) == ["a/deep/one.png", "a/two.tif", "b.JPG", "é è.webp"]
    assert all(item.id == item.group == item.uri for item in items(reader))
    assert len(reader.columns) == 0
    assert reader.load("a/two.tif") == b"a/two.tif"


def test_pictures_of_formats_that_are_not_decoded_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.HEIC", "c.avif", "deep/d.DNG", "e.dng", "f.jxl", "notes.txt")
    with pytest.warns(UserWarning, match=r"3 files below .* their format is not read \(\.dng 2, \.jxl 1\)"):
        assert ids(Folder(tmp_path)) == ["a.jpg", "b.HEIC", "c.avif"]
    assert ids(Folder(tmp_path, "**/*.dng")) == ["e.dng"]  # asked for by name: skipped with its reason
    assert ids(Folder(tmp_path, "[ab].*")) == ["a.jpg", "b.HEIC"]  # what the pattern leaves out is no concern
    with pytest.raises(ReaderError, match=r"; 1 files of other formats\)"):
        Folder(tmp_path, "f*").parts()


def test_names_that_are_not_utf_8_are_told_and_the_rest_is_listed(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"\xff/b.png"), os.fsdecode(b"\xff.txt"))
    with pytest.warns(UserWarning, match=r"2 files below .* names are not UTF-8 \(such as b'.*'\); rename"):
        assert ids(Folder(tmp_path)) == ["a.jpg"]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ReaderError, match=r"; 2 names are not UTF-8\)"):
        Folder(tmp_path).parts()


def test_reading_a_part_twice_gives_the_same_and_another_instance_too(tmp_path: Path) -> None:
    put(tmp_path, *[f"{number}.png" for number in range(50)])
    reader = Folder(tmp_path)
    (part,) = reader.parts()
    assert list(reader.read(part)) == list(reader.read(part)) == items(Folder(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*", ["a/b/c.png", "a/x.jpg", "x.png"]),
        ("*", ["x.png"]),
        ("a/*", ["a/x.jpg"]),
        ("a/**", ["a/b/c.png", "a/x.jpg"]),
        ("**/b/*", ["a/b/c.png"]),
        ("**/*.png", ["a/b/c.png", "x.png"]),
        ("**/*.raw", ["a/y.raw"]),
        ("**/[cx].*", ["a/b/c.png", "a/x.jpg", "x.png"]),
    ],
)
def test_a_pattern_chooses(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    put(tmp_path, "x.png", "a/x.jpg", "a/y.raw", "a/b/c.png", "a/b/readme")
    assert ids(Folder(tmp_path, pattern)) == expected


def test_the_stamp_changes_when_the_image_does(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    before = {item.id: item.stamp for item in items(Folder(tmp_path))}
    (tmp_path / "a.png").write_bytes(b"longer than before")
    status = (tmp_path / "b.png").stat()
    os.utime(tmp_path / "b.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = {item.id: item.stamp for item in items(Folder(tmp_path))}
    assert before["a.png"] != after["a.png"]
    assert before["b.png"] != after["b.png"]


def test_symlinked_folders_are_entered_and_loops_are_not(tmp_path: Path) -> None:
    put(tmp_path, "root/a/one.png", "elsewhere/two.png")
    root = tmp_path / "root"
    (root / "a" / "up").symlink_to(root)
    (root / "other").symlink_to(tmp_path / "elsewhere")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    reader = Folder(root)
    assert ids(reader) == ["a/one.png", "dangling.png", "other/two.png", "self.png"]
    assert {item.id: item.stamp for item in items(reader)}["dangling.png"] == "gone"
    with pytest.raises(BadImage, match="file is gone"):
        reader.load("dangling.png")


def test_a_file_that_goes_away_is_a_bad_image(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    reader = Folder(tmp_path)
    (part,) = reader.parts()
    (tmp_path / "a.png").unlink()
    assert [item.stamp == "gone" for item in reader.read(part)] == [True, False]
    with pytest.raises(BadImage, match="file is gone"):
        reader.load("a.png")


def test_other_failures_of_the_disk_stay_os_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png")

    def broken(self: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(OSError, match="Input/output"):
        Folder(tmp_path).load("a.png")


@pytest.mark.parametrize("uri", ["../secret", "a/../../secret", "/etc/hostname", "", "a\0b"])
def test_a_uri_cannot_leave_the_root(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ReaderError, match="leads out of"):
        Folder(tmp_path).load(uri)


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="does not exist; set root"):
        Folder(tmp_path / "none").parts()
    put(tmp_path, "file.png")
    with pytest.raises(ReaderError, match="is not a folder"):
        Folder(tmp_path / "file.png").parts()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReaderError, match=r"no image below .* matches '\*\*/\*'"):
        Folder(tmp_path / "empty").parts()
    with pytest.raises(ReaderError, match="no part 'x'"):
        list(Folder(tmp_path).read("x"))


def test_it_is_reached_through_the_registry(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    reader = registry().build(registry().ref("reader", "folder", {"root": "."}, base=tmp_path))
    assert ids(reader) == ["a.png"]
