"""Which images COLMAP gets, and which it would die of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crater_ray.errors import ReaderError, UserError
from crater_ray.testing import FakeIndex
from crater_ray_colmap.names import colmap_name
from crater_ray_colmap.pictures import Picture, found, gathered, groups, usable, written


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


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a//b.jpg", "./a.jpg", ""])
def test_a_name_that_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no path below a folder"):
        found([name], [name], tmp_path)
    with pytest.raises(UserError, match="no path below a folder"):
        written(Named(lambda id: f"{name}/../x.png" if id.endswith("0000") else id), tmp_path)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("IMG 1.jpg", "IMG%201.jpg"),
        ("#a/b.jpg", "%23a/b.jpg"),
        ("a#b/#c.jpg", "a#b/#c.jpg"),
        ("a\u202fb.jpg", "a%E2%80%AFb.jpg"),
        ("a\u3000\u2028.jpg", "a%E3%80%80%E2%80%A8.jpg"),
        ("a\tb\n.jpg", "a%09b%0A.jpg"),
        ("ä%20.jpg", "ä%20.jpg"),
    ],
)
def test_a_name_that_a_pair_list_loses_is_written_as_in_a_url(name: str, known: str) -> None:
    assert colmap_name(name) == known
    assert len(f"{known} x".split()) == 2


def test_what_colmap_cannot_read_or_name_is_gathered_beside_what_it_can(tmp_path: Path) -> None:
    images, folder, random = tmp_path / "photos", tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    picture = Image.fromarray(random.integers(0, 255, (32, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif.get_ifd(0x8769)[0x920A] = 6, 35.0  # turned, 35 mm
    picture.save(images / "turned.webp", lossless=True, exif=exif)
    for name in ("a.gif", "a.jp2", "webp.jpg"):
        picture.save(images / name, "webp" if name == "webp.jpg" else None)
    Image.fromarray(random.integers(0, 4096, (32, 40), np.uint16)).save(images / "twelve_bits.png")
    Image.fromarray(random.random((32, 40), np.float32)).save(images / "float.tif")
    good = ["IMG 1.jpg", "l.png", "p.png", "one_bit.png", "cmyk.tif", "mpo.jpg", "b.bmp", "g.pgm"]
    for name in good:
        mode = {"l": "L", "p": "P", "o": "1", "c": "CMYK", "g": "L"}.get(name[0], "RGB")
        picture.convert(mode).save(images / name, "MPO" if name == "mpo.jpg" else None)
    uris = sorted(path.name for path in images.iterdir())
    index = Named(lambda id: uris[int(id[-4:])] if int(id[-4:]) < len(uris) else id)
    index.image = lambda id: np.zeros((40, 32, 3), np.uint8)  # type: ignore[method-assign]

    files = found(uris, uris, images)
    assert {file.source for file in files if not file.converted} == set(good)
    assert not usable(files)
    assert usable([file for file in files if file.source in good[1:]])
    there = gathered(index, files, images, folder)
    assert {file.id: file.name for file in there} == {
        uri: {"IMG 1.jpg": "IMG%201.jpg"}.get(uri, uri if uri in good else f"{uri}.png") for uri in uris
    }
    assert (folder / "IMG%201.jpg").read_bytes() == (images / "IMG 1.jpg").read_bytes()
    for file in there:
        with Image.open(folder / file.name) as image:
            assert image.size == file.size == ((32, 40) if file.converted else (40, 32))
    with Image.open(folder / "turned.webp.png") as image:
        assert image.getexif().get(0x0112) is None
        assert image.getexif().get_ifd(0x8769)[0x920A] == 35.0
    (folder / "a.gif.png").unlink()
    assert gathered(index, files, images, folder) == there


def test_one_file_under_two_ids_is_refused_by_both_names(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "0.jpg")
    with pytest.raises(UserError, match=r"ids 'a' and 'b' are both the file '0\.jpg'"):
        found(["a", "b"], ["0.jpg", "0.jpg"], tmp_path)
    for name in ("a b.jpg", "a%20b.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"ids 'x' and 'y' are both the file 'a%20b\.jpg'"):
        found(["x", "y"], ["a b.jpg", "a%20b.jpg"], tmp_path)


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
    with pytest.raises(UserError, match=r"ids 'same' and 'same\.png' are both the file 'same\.png'"):
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
