"""The images that COLMAP opens: checked first, because what it cannot use it leaves out in silence."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from crater_ray.errors import ReaderError, UserError
from crater_ray.plugins import Index
from crater_ray_colmap import Cameras

WRITTEN = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Picture:
    """One item as COLMAP knows it: `name` is its path below the folder of images."""

    id: str
    name: str
    size: tuple[int, int]  # width, height; pixels
    stamp: str  # changes when the file does


def found(ids: Sequence[str], uris: Sequence[str], folder: Path) -> list[Picture]:
    """The files folder/uri, none of them missing or unreadable; only headers are read.

    A file whose header is good was decoded whole when it was indexed, so it is not decoded again.
    Raises ReaderError that names the first few of those that are not there or are no images.
    """
    if not folder.is_dir():
        raise ReaderError(f"images: {folder} is not a folder; name the one that the reader reads")
    _check_names(uris)
    missing = [uri for uri in uris if not (folder / uri).is_file()]
    if missing:
        raise ReaderError(
            f"{len(missing)} of {len(uris)} images are not below {folder}: {_some(missing)}; set images to "
            "the folder that the reader reads, or leave it out to have them written from the index"
        )
    pictures = []
    for id, uri in zip(ids, uris, strict=True):
        status = (folder / uri).stat()
        pictures.append(Picture(id, uri, _size(folder / uri), f"{status.st_size} {status.st_mtime_ns}"))
    return pictures


def written(index: Index, folder: Path) -> list[Picture]:
    """Every item of the index as a file below `folder`, under its id; those that are there already are kept.

    An id without the extension of a format that keeps RGB gets ".png". EXIF is lost, and with it the focal
    length that COLMAP would start from. Raises UserError for ids that cannot be paths, QueryError for an
    image that its reader no longer gives.
    """
    names = [id if _suffix(id) in WRITTEN else f"{id}.png" for id in index.ids]
    _check_names(names)
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise UserError(f"two ids would be the file {twice[0]!r}; rename one of them")
    stamps = index.items(["stamp"])["stamp"].to_pylist()
    pictures = []
    for id, name, stamp in zip(index.ids, names, stamps, strict=True):
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            how = {"quality": 95, "subsampling": 0} if WRITTEN[_suffix(name)] == "JPEG" else {}
            Image.fromarray(index.image(id)).save(part, WRITTEN[_suffix(name)], **how)
            part.replace(path)
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
                f"{where} hold {len(sizes)} sizes ({_some([f'{w} x {h}' for w, h in sizes])}) and one camera "
                f'has one: set cameras = "size" for a camera a size, or "image" for a camera an image'
            )
    return [[picture.name for picture in alike] for alike in by.values()]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if re.search(r"\s", name):
            raise UserError(
                f"{name!r} has white space, where COLMAP splits a pair; rename it, or give it another id"
            )
        if path.is_absolute() or ".." in path.parts or str(path) != name:
            raise UserError(f"{name!r} is no path below a folder; give the image another id")


def _size(path: Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels and odd metadata; only the header is read
            with Image.open(path) as image:
                return image.size
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ReaderError(f"{path} is no image that can be used: {error}") from None


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
