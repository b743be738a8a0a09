"""Reader `manifest`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crater_ray.builtin.readers.manifest import Manifest
from crater_ray.errors import BadImage, ReaderError
from crater_ray.plugins import Reader, registry
from crater_ray.types import Item


def items(reader: Manifest) -> list[Item]:
    return [item for part in reader.parts() for item in reader.read(part)]


def table(folder: Path, text: str, name: str = "images.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_gives_ids_groups_and_typed_columns(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.jpg").write_bytes(b"bytes")
    path = table(tmp_path, "path,group,lat,body,seen,note\nx/b.jpg,007,1.5,Moon,3,\na.jpg,,2,Mars,4,\n")
    reader = Manifest(path)
    assert isinstance(reader, Reader)
    assert reader.columns == pa.schema(
        [("lat", pa.float64()), ("body", pa.string()), ("seen", pa.int64()), ("note", pa.string())]
    )
    first, second = items(reader)
    assert (first.id, first.group, first.uri) == ("a.jpg", "a.jpg", "a.jpg")
    assert (second.id, second.group) == ("x/b.jpg", "007")
    assert second.columns == {"lat": 1.5, "body": "Moon", "seen": 3, "note": None}
    assert first.stamp == "gone"
    assert second.stamp.startswith("5-")
    assert reader.load("x/b.jpg") == b"bytes"
    with pytest.raises(BadImage, match="gone"):
        reader.load("a.jpg")


def test_items_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [f"{number}.jpg,{number % 7},{number / 4}" for number in range(300)]
    forward = Manifest(table(tmp_path, "\n".join(["path,group,x", *rows]), "a.csv"))
    backward = Manifest(table(tmp_path, "\n".join(["path,group,x", *reversed(rows)]), "b.csv"))
    assert items(forward) == items(backward) == items(forward)
    assert forward.parts() == backward.parts()
    assert [item.id for item in items(forward)] == sorted(f"{number}.jpg" for number in range(300))


def test_a_parquet_table_with_other_column_names(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "file": ["b.png", "a.png"],
            "name": ["B", "A"],
            "crater": pa.array([3, None], pa.int64()),
            "body": pa.array(["Moon", "Moon"]).dictionary_encode(),
        }
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    root = tmp_path / "elsewhere"
    reader = Manifest(
        tmp_path / "t.parquet", root=root, id_column="name", path_column="file", group_column="crater"
    )
    assert reader.columns == pa.schema([("body", pa.string())])
    assert [(item.id, item.uri, item.group, item.columns) for item in items(reader)] == [
        ("A", "a.png", "A", {"body": "Moon"}),
        ("B", "b.png", "3", {"body": "Moon"}),
    ]


def test_no_group_column_when_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "path\tsun\nb.jpg\t30\na.jpg\t40\n", "t.tsv")
    assert [(item.id, item.group) for item in items(Manifest(path, group_column=""))] == [
        ("a.jpg", "a.jpg"),
        ("b.jpg", "b.jpg"),
    ]


def test_absolute_paths_below_the_root_and_backslashes(tmp_path: Path) -> None:
    path = table(tmp_path, f"path,group\n{tmp_path}/sub/a.jpg,1\nsub\\b.jpg,2\n")
    assert [item.uri for item in items(Manifest(path))] == ["sub/a.jpg", "sub/b.jpg"]


def test_a_type_is_that_of_all_values(tmp_path: Path) -> None:
    rows = "\n".join(f"{number}.jpg,g,{number}" for number in range(150_000))
    reader = Manifest(table(tmp_path, f"path,group,code\n{rows}\nlast.jpg,g,B12\n"))
    assert reader.columns.field("code").type == pa.string()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,grp\na,1\n", "has no column 'group'; did you mean 'grp'. it has path, grp; set group_column"),
        ("file,group\na,1\n", "has no column 'path'; it has file, group; set path_column"),
        ("path,group\na.jpg,1\nb.jpg,2\na.jpg,3\n", "id 'a.jpg' stands twice, on line 2 and line 4"),
        ("id,path,group\n7,a.jpg,1\n7,b.jpg,2\n", "id '7' stands twice, on line 2 and line 3"),
        ("id,path,group\n,a.jpg,1\n", "line 2: id is empty"),
        ("path,group\na.jpg,1\n,2\n", "line 3: path is empty"),
        ("path,group\n../a.jpg,1\n", "line 2: path leads out of"),
        ("path,group\nb/../../a.jpg,1\n", "line 2: path leads out of"),
        ("path,group\n/etc/a.jpg,1\n", "line 2: path leads out of"),
        ("path,group\n~/a.jpg,1\n", "line 2: path leads out of"),
        ("path,group\nfile:///data/a.jpg,1\n", "line 2: path leads out of"),
        ("path,group\nC:\\data\\a.jpg,1\n", "line 2: path leads out of"),
        ("sep=,\n# of 2020\n\npath,group\na.jpg,1\n ,2\n", "line 6: path is empty"),
        ("path,group\n", "lists no image"),
        ("", "cannot be read: Empty CSV"),
        ("path,group\na.jpg\n", "cannot be read: CSV parse error"),
        ("path,group,stamp\na,b,c\n", "has a column 'stamp'"),
        ("path,group,x,x\na,b,c,d\n", "two columns called 'x'"),
    ],
)
def test_a_table_that_does_not_hold_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        Manifest(table(tmp_path, text)).parts()


@pytest.mark.parametrize(
    "content",
    [
        "path,group,lat\na.jpg,1,1.5\n".encode("utf-16"),
        "path,group,lat\na.jpg,1,1.5\n".encode("utf-8-sig"),
        "path,group,lat\na.jpg,1,1.5\n".encode("utf-16-le"),
        b"path;group;lat\na.jpg;1;1,5\n",
        b"path\tgroup\tlat\na.jpg\t1\t1.5\n",
        b"path|group|lat\ra.jpg|1|1.5\r",
        b"path,group,lat,\r\na.jpg,1,1.5,\r\n\r\n",
        b"\n\npath,group,lat\na.jpg,1,1.5\n",
        b"sep=;\r\npath;group;lat\r\na.jpg;1;1,5\r\n",
        b"SEP=,\npath,group,lat\na.jpg,1,1.5\n",
        b"# a list, of 2020\n#\npath,group,lat\na.jpg,1,1.5\n",
        b"# of 2020\n# path,group,lat\na.jpg,1,1.5\n",
        b"path , group, lat\n a.jpg , 1, 1.5 \n",
        b'path,group,lat\n"a.jpg "," 1",1.5\n',
        "path,group,lat\na.jpg\u00a0,1,1.5\n".encode(),
    ],
)
def test_a_csv_as_programs_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.csv"
    path.write_bytes(content)
    reader = Manifest(path)
    (item,) = items(reader)
    assert (item.id, item.group, item.columns) == ("a.jpg", "1", {"lat": 1.5})


def test_a_cell_is_the_same_with_blanks_around_it(tmp_path: Path) -> None:
    path = table(tmp_path, "id, path, group, body\n007, x/a b.jpg, g, Moon\n#8,b.jpg,g,Moon\n")
    first, second = items(Manifest(path))
    assert (first.id, first.uri, first.group, first.columns) == ("#8", "b.jpg", "g", {"body": "Moon"})
    assert (second.id, second.uri, second.group, second.columns) == (
        "007",
        "x/a b.jpg",
        "g",
        {"body": "Moon"},
    )


def test_a_column_may_begin_with_a_hash(tmp_path: Path) -> None:
    path = table(tmp_path, "# of 2020\n#id,path,group\n7,a.jpg,1\n")
    assert [item.id for item in items(Manifest(path, id_column="#id"))] == ["7"]
    assert [item.id for item in items(Manifest(path))] == ["7"]


def test_latin_1(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_bytes("path,group\nRöntgen.jpg,1\n".encode("latin-1"))
    assert items(Manifest(tmp_path / "images.csv"))[0].id == "Röntgen.jpg"


@pytest.mark.parametrize(
    "raw", [bytes(range(256)) * 4, b"PK\x03\x04" + bytes(99), b"\x89PNG\r\n\x1a\n" + bytes(99), b"a\x01,b\n"]
)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_binary_file_is_refused_without_its_bytes(tmp_path: Path, raw: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ReaderError) as told:
        Manifest(tmp_path / name).parts()
    assert str(told.value).isprintable()


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="does not exist; set path"):
        Manifest(tmp_path / "none.csv").parts()
    with pytest.raises(ReaderError, match=r"give a \.csv"):
        Manifest(table(tmp_path, "x", "t.xlsx")).parts()
    with pytest.raises(ReaderError, match="cannot be read"):
        Manifest(table(tmp_path, "x", "t.parquet")).columns  # noqa: B018
    pq.write_table(pa.table({"path": ["a"], "group": [[1]]}), tmp_path / "lists.parquet")
    with pytest.raises(ReaderError, match=r"column 'group' holds list"):
        Manifest(tmp_path / "lists.parquet").parts()


def test_rows_of_a_parquet_table_are_told_by_number(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["b", "a", "b"], "group": ["1", "2", "3"]}), tmp_path / "t.parquet")
    with pytest.raises(ReaderError, match="id 'b' stands twice, on row 1 and row 3"):
        Manifest(tmp_path / "t.parquet").parts()


def test_an_unknown_part_and_a_uri_outside(tmp_path: Path) -> None:
    reader = Manifest(table(tmp_path, "path,group\na.jpg,1\n"))
    with pytest.raises(ReaderError, match="no part 'x'"):
        list(reader.read("x"))
    with pytest.raises(ReaderError, match="leads out"):
        reader.load("../a.jpg")


def test_it_is_reached_through_the_registry(tmp_path: Path) -> None:
    table(tmp_path, "path,group\na.jpg,1\n")
    ref = registry().ref("reader", "manifest", {"path": "images.csv"}, base=tmp_path)
    assert [item.id for item in items(registry().build(ref))] == ["a.jpg"]
