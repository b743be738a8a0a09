"""Which images COLMAP gets, and which it would die of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import ReaderError, UserError
from crater_ray.testing import FakeIndex
from crater_ray_colmap.pictures import Picture, found, groups, written


class Named(FakeIndex):
    """A FakeIndex under other ids."""

    def __init__(self, rename: Callable[[str], str]) -> None:
        super().__init__()
        self._of = {rename(id): id for id in super().ids}

    @property
    def ids(self) -> list[str]:
        return list(self._of)

    def image(self, id: str) -> np.ndarray:
        return super().image(getattr(self, "_of", {}).get(id, id))


def pictures(**sizes: tuple[int, int]) -> list[Picture]:
    return [Picture(name, name.replace("__", "/"), size, "") for name, size in sizes.items()]


def test_files_are_found_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "a" / "x.jpg")
    Image.new("L", (20, 30)).save(tmp_path / "y.png")
    one, other = found(["first", "second"], ["a/x.jpg", "y.png"], tmp_path)
    assert (one.id, one.name, one.size) == ("first", "a/x.jpg", (40, 30))
    assert (other.name, other.size) == ("y.png", (20, 30))
    Image.new("RGB", (40, 31)).save(tmp_path / "a" / "x.jpg")
    assert found(["first"], ["a/x.jpg"], tmp_path)[0].stamp != one.stamp


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    Image.new("RGB", (40, 30)).save(tmp_path / "0.jpg")
    with pytest.raises(ReaderError, match=r"4 of 5 images .* 1\.jpg, 2\.jpg, 3\.jpg and 1 more; set images"):
        found(names, names, tmp_path)
    with pytest.raises(ReaderError, match="is not a folder"):
        found(names, names, tmp_path / "nowhere")
    (tmp_path / "1.jpg").write_text("not an image")
    with pytest.raises(ReaderError, match=r"1\.jpg is no image"):
        found(names[:2], names[:2], tmp_path)


@pytest.mark.parametrize("name", ["a b.jpg", "../a.jpg", "/a.jpg", "a//b.jpg", "./a.jpg", "a\tb.jpg"])
def test_a_name_that_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"white space|no path below a folder"):
        found([name], [name], tmp_path)
    with pytest.raises(UserError, match=r"white space|no path below a folder"):
        written(Named(lambda id: name if id.endswith("0000") else id), tmp_path)


def test_images_are_written_once_under_their_ids(tmp_path: Path) -> None:
    index = Named(lambda id: f"deep/{id}.jpg" if id.endswith("3") else id)
    first = written(index, tmp_path)
    assert {picture.name for picture in first} == {
        "deep/item-0003.jpg",
        *(f"item-{n:04d}.png" for n in range(12) if n != 3),
    }
    assert {picture.size for picture in first} == {(32, 32)}
    for picture in first:
        if picture.name.endswith(".png"):
            pixels = np.asarray(Image.open(tmp_path / picture.name))
            np.testing.assert_array_equal(pixels, index.image(picture.id))
    kept = (tmp_path / "item-0000.png").stat().st_mtime_ns
    (tmp_path / "item-0001.png").unlink()
    assert written(index, tmp_path) == first
    assert (tmp_path / "item-0000.png").stat().st_mtime_ns == kept
    assert len(list(tmp_path.rglob("*.*"))) == 12  # and no half-written one


def test_two_ids_of_one_file_are_refused(tmp_path: Path) -> None:
    renamed = {"item-0000": "same", "item-0001": "same.png"}
    with pytest.raises(UserError, match=r"two ids would be the file 'same\.png'"):
        written(Named(lambda id: renamed.get(id, id)), tmp_path)


def test_cameras_are_shared_as_asked() -> None:
    mixed = pictures(a__1=(40, 30), a__2=(30, 40), b__1=(40, 30), b__2=(40, 30))
    assert groups(mixed[2:], "folder") == [["b/1", "b/2"]]
    assert groups(mixed, "size") == [["a/1"], ["a/2"], ["b/1", "b/2"]]
    assert groups(mixed, "image") == [["a/1"], ["a/2"], ["b/1"], ["b/2"]]
    assert groups([mixed[0], mixed[2]], "one") == [["a/1", "b/1"]]
    with pytest.raises(
        UserError, match=r"folder 'a' hold.* 2 sizes \(30 x 40, 40 x 30\).*cameras = \"size\""
    ):
        groups(mixed, "folder")
    with pytest.raises(UserError, match="these images hold 2 sizes"):
        groups(mixed, "one")
