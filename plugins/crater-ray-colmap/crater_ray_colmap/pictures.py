"""The images that COLMAP opens: what it cannot read, or cannot name, is converted first.

COLMAP skips a file that it cannot read with a line in its log, and a name that a pair list cannot hold.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from crater_ray.errors import ReaderError, UserError
from crater_ray.files import whole_file
from crater_ray.plugins import Index
from crater_ray_colmap import Cameras
from crater_ray_colmap.names import check_unique, colmap_name

WRITTEN = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
# What the pycolmap wheel reads (4.2.1, each tried), by Pillow's names of formats and of 8-bit samples. COLMAP
# takes the full range of more bits: the 16-bit file of a 12-bit camera would be black.
READ = frozenset(("JPEG", "MPO", "PNG", "TIFF", "BMP", "PPM"))
EIGHT_BITS = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
ORIENTATION = 0x0112  # the EXIF tag: an image of the index is upright
SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Picture:
    """One item as COLMAP knows it: `name` is its path below the folder of images."""

    id: str
    name: str
    size: tuple[int, int]  # width, height; pixels
    stamp: str  # changes when the file does
    source: str = ""  # the reader's own file below its folder; "": written from the index
    converted: bool = False  # COLMAP cannot read the reader's file


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of a run, all below one folder."""

    folder: Path
    pictures: Sequence[Picture]

    @property
    def names(self) -> dict[str, str]:
        """COLMAP's name of each id."""
        return {picture.id: picture.name for picture in self.pictures}


def found(ids: Sequence[str], uris: Sequence[str], folder: Path) -> list[Picture]:
    """The files folder/uri, none of them missing, under the names that COLMAP gets; only headers are read.

    A file whose header is good was decoded whole when it was indexed, so it is not decoded again.
    Raises ReaderError that names the first few missing files, UserError for one file under two ids.
    """
    if not folder.is_dir():
        raise ReaderError(f"images: {folder} is not a folder; name the one that the reader reads")
    names = {id: colmap_name(uri) for id, uri in zip(ids, uris, strict=True)}
    missing = [uri for uri in uris if not (folder / uri).is_file()]
    if missing:
        raise ReaderError(
            f"{len(missing)} of {len(uris)} images are not below {folder}: {some(missing)}; set images to "
            "the folder that the reader reads, or leave it out to have them written from the index"
        )
    pictures = []
    for id, uri in zip(ids, uris, strict=True):
        status = (folder / uri).stat()
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        size, readable = _header(folder / uri)
        name = names[id] if readable else f"{names[id]}.png"
        pictures.append(Picture(id, name, size, stamp, uri, not readable))
    check_unique({picture.id: picture.source for picture in pictures})
    check_unique({picture.id: picture.name for picture in pictures})
    return pictures


def usable(pictures: Sequence[Picture]) -> bool:
    """COLMAP reads each file, and by the reader's own name: the reader's folder serves as it is."""
    return not any(picture.converted or picture.name != picture.source for picture in pictures)


def gathered(index: Index, pictures: Sequence[Picture], images: Path, folder: Path) -> list[Picture]:
    """Every picture below `folder`: a link to its file below `images`, or a PNG of what COLMAP cannot read.

    The PNG is the index's own image, upright. It keeps the EXIF that can be read, since COLMAP
    takes the focal length from it. Files that are there already are kept.
    """
    there = []
    for picture in pictures:
        path, source = folder / picture.name, (images / picture.source).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not picture.converted:
            if not path.is_symlink():
                path.symlink_to(source)
        elif not path.exists():
            _save(index, picture.id, path, _exif(source))
        there.append(replace(picture, size=_size(path)))
    return there


def written(index: Index, folder: Path) -> list[Picture]:
    """Every item of the index as a file below `folder`, under its id; those that are there already are kept.

    An id without the extension of a format that keeps RGB gets ".png". EXIF is lost, and with it the focal
    length that COLMAP would start from.
    Raises UserError for ids that cannot be paths or are one file, QueryError for an image that its reader no
    longer gives.
    """
    names = {id: colmap_name(id if _suffix(id) in WRITTEN else f"{id}.png") for id in index.ids}
    check_unique(names)
    stamps = index.items(["stamp"])["stamp"].to_pylist()
    pictures = []
    for (id, name), stamp in zip(names.items(), stamps, strict=True):
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(index, id, path)
        pictures.append(Picture(id, name, _size(path), stamp))
    return pictures


def groups(pictures: Sequence[Picture], cameras: Cameras) -> list[list[str]]:
    """Names that share one camera, a list each; "image" gives every image its own.

    Raises UserError where images of one camera have several sizes, which COLMAP would drop without a word.
    """
    by: dict[object, list[Picture]] = defaultdict(list)
    for picture in pictures:
        parent = str(PurePosixPath(picture.name).parent)
        key: object = {
            "one": "",
            "folder": parent,
            "size": (parent, picture.size),
            "image": picture.name,
        }[cameras]
        by[key].append(picture)
    for key, alike in by.items():
        sizes = sorted({picture.size for picture in alike})
        if len(sizes) > 1:
            where = f"folder {key!r}" if cameras == "folder" and key != "." else "these images"
            raise UserError(
                f"{where} hold {len(sizes)} sizes ({some([f'{w} x {h}' for w, h in sizes])}) and one camera "
                f'has one: set cameras = "size" for a camera a size, or "image" for a camera an image'
            )
    return [[picture.name for picture in alike] for alike in by.values()]


def _save(index: Index, id: str, path: Path, exif: Image.Exif | None = None) -> None:
    kind = WRITTEN[_suffix(path.name)]
    how = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with whole_file(path) as own:
        Image.fromarray(index.image(id)).save(own, kind, **how, **({"exif": exif} if exif else {}))


def _exif(path: Path) -> Image.Exif | None:
    try:
        with _quiet(), Image.open(path) as image:
            exif = image.getexif()
            exif.get_ifd(0x8769)  # the camera's own tags are read when they are asked for
    except Exception:  # a broken tag says nothing about the pixels, which are whole
        return None
    exif.pop(ORIENTATION, None)
    return exif


def _header(path: Path) -> tuple[tuple[int, int], bool]:
    """Size, and whether COLMAP reads it; (0, 0) where Pillow does not know the format either."""
    try:
        with _quiet(), Image.open(path) as image:
            return image.size, image.format in READ and image.mode in EIGHT_BITS
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return (0, 0), False


def _size(path: Path) -> tuple[int, int]:
    size, _ = _header(path)
    if size == (0, 0):
        raise ReaderError(
            f"{path} is no image that can be used; remove it, and run again to have it made anew"
        )
    return size


def _quiet() -> warnings.catch_warnings[None]:
    """Nothing of many pixels and odd metadata: only headers are read."""
    return warnings.catch_warnings(action="ignore")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
