"""What the readers `folder` and `manifest` list."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inputs.row import Row


def _folder(wanted: Sequence[str], *names: str, pattern: str = "**/*") -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray.builtin.readers.folder import Folder

        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")
        reader = Folder(folder, pattern)
        assert [item.id for part in reader.parts() for item in reader.read(part)] == list(wanted)

    return attempt


def _manifest(content: str | bytes, name: str = "t.csv") -> Callable[[Path], None]:
    """A table of a.jpg, of group 1, at latitude 1.5."""

    def attempt(folder: Path) -> None:
        from crater_ray.builtin.readers.manifest import Manifest

        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        _is_one(Manifest(folder / name))

    return attempt


def _is_one(reader: Any) -> None:
    ((id, group, columns),) = [
        (item.id, item.group, item.columns) for part in reader.parts() for item in reader.read(part)
    ]
    assert (id, group, columns) == ("a.jpg", "1", {"lat": 1.5})


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from crater_ray.builtin.readers.manifest import Manifest

    pq.write_table(pa.table({"path": ["a.jpg"], "group": [1], "lat": [1.5]}), folder / "t.parquet")
    _is_one(Manifest(folder / "t.parquet"))


H = "path,group,lat\n"

ROWS = (
    Row(
        "folders in folders, any case of extension",
        "read",
        _folder(["a/b/c.png", "x.JPG"], "x.JPG", "a/b/c.png"),
    ),
    Row("AVIF; HEIC (with crater-ray[heif])", "read", _folder(["a.avif", "b.HEIC"], "a.avif", "b.HEIC")),
    Row(
        "raw photographs, JPEG XL, PSD, SVG … beside images",
        "read: the images",
        _folder(["a.jpg"], "a.jpg", "b.dng", "c.jxl"),
        "are not indexed, since their format is not read (.dng 1, .jxl 1); convert them to PNG or TIFF",
    ),
    Row(
        "the same named by `pattern`",
        "read: skipped as bad images",
        _folder(["b.dng"], "b.dng", pattern="*.dng"),
    ),
    Row(
        "names with white space, `#` and other scripts",
        "read",
        _folder(["#1 é.png", "月 1.png"], "#1 é.png", "月 1.png"),
    ),
    Row(
        "a name that is not UTF-8",
        "read: the other images",
        _folder(["a.jpg"], "a.jpg", os.fsdecode(b"caf\xe9.jpg")),
        "are not indexed, since their names are not UTF-8",
    ),
    Row("hidden files and folders", "read: without them", _folder(["a.png"], "a.png", ".b.png", ".c/d.png")),
    Row("a folder without an image", "set root or pattern to where they are", _folder([], "notes.txt")),
    *(
        Row(f"manifest, {form}", "read", _manifest(content, name))
        for form, content, name in (
            ("CSV", H + "a.jpg,1,1.5\n", "t.csv"),
            ("TSV", "path\tgroup\tlat\na.jpg\t1\t1.5\n", "t.tsv"),
            ("semicolons and decimal commas", "path;group;lat\na.jpg;1;1,5\n", "t.csv"),
            ("bars", "path|group|lat\na.jpg|1|1.5\n", "t.csv"),
            ("byte-order mark", (H + "a.jpg,1,1.5\n").encode("utf-8-sig"), "t.csv"),
            ("UTF-16", (H + "a.jpg,1,1.5\n").encode("utf-16"), "t.csv"),
            ("Excel's sep=, comments above", "sep=,\n# 2020\n" + H + "a.jpg,1,1.5\n", "t.csv"),
            ("blanks around cells", "path, group, lat\n a.jpg , 1, 1.5\n", "t.csv"),
            ("trailing commas, blank rows", "\npath,group,lat,\r\na.jpg,1,1.5,\r\n\r\n", "t.csv"),
        )
    ),
    Row("manifest, Parquet", "read", _parquet),
    *(
        Row(f"manifest, {form}", line, _manifest(content, name))
        for form, line, content, name in (
            (
                "no such column",
                "did you mean 'grp'? it has path, grp, lat",
                "path,grp,lat\na.jpg,1,2\n",
                "t.csv",
            ),
            (
                "an id given twice",
                "id 'a.jpg' stands twice, on line 2 and line 3",
                H + "a.jpg,1,2\n" * 2,
                "t.csv",
            ),
            ("a column given twice", "two columns called 'x'", "path,group,x,x\na,b,c,d\n", "t.csv"),
            ("a path out of `root`", "line 2: path leads out of", H + "../a.jpg,1,2\n", "t.csv"),
            ("a row without a path", "line 2: path is empty", H + ",1,2\n", "t.csv"),
            ("a short row", "cannot be read: CSV parse error", H + "a.jpg\n", "t.csv"),
            ("no rows", "lists no image", H, "t.csv"),
            ("a workbook", "give a .csv", b"PK\x03\x04" + bytes(99), "t.xlsx"),
            ("a binary file", "t.csv", bytes(range(256)) * 4, "t.csv"),
        )
    ),
)
