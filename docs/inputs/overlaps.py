"""Overlap files of training: pairs_gt.csv, GL3D and 1DSfM, as other programs write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inputs.row import Row

H = "image_a,image_b,overlap,reg_a,reg_b\n"
PLAIN = H + "a.jpg,b.jpg,0.5,1,1\n"
TWO = "undist_images/0.jpg\nundist_images/1.jpg\n"
POSE = "1 0 0 0 1 0 0 0 1 0.1 0.2 0.3"


def _pairs(
    text: str | bytes,
    names: Sequence[str] = ("a.jpg", "b.jpg"),
    known: Sequence[float] = (0.5,),
    unknown: int = 0,
) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray_supscene.overlap.scenes import pairs_scene

        (folder / "pairs_gt.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        _is(pairs_scene(folder), names, known, unknown)

    return attempt


def _gl3d(
    listed: str, overlaps: str = "0 1 0.5\n", names: Sequence[str] = ("0.jpg", "1.jpg")
) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray_supscene.overlap.scenes import gl3d_scene

        scene = folder / "data" / "s"
        (scene / "geolabel").mkdir(parents=True)
        (scene / "image_list.txt").write_text(listed, encoding="utf-8")
        (scene / "geolabel" / "mesh_overlap.txt").write_text(overlaps)
        _is(gl3d_scene(folder, "s"), names)

    return attempt


def _one_dsfm(listed: str, poses: str, names: Sequence[str]) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        from crater_ray_supscene.overlap.scenes import one_dsfm_scene

        (folder / "list.txt").write_text(listed)
        (folder / "EGs.txt").write_text(poses)
        _is(one_dsfm_scene(folder), names, [1.0])

    return attempt


def _is(scene: Any, names: Sequence[str], known: Sequence[float] = (0.5,), unknown: int = 0) -> None:
    from crater_ray_supscene.overlap.graph import overlap_graph

    graph = overlap_graph(len(scene.uris), scene.edges, scene.unknown)
    assert sorted(scene.uris) == sorted(names)
    assert sorted(graph.overlap.data.tolist()[::2]) == sorted(known)
    assert graph.unknown.nnz == 2 * unknown


def _flags(a: str, b: str) -> Callable[[Path], None]:
    return _pairs(f"{PLAIN}a.jpg,c.jpg,0,{a},{b}\n", ("a.jpg", "b.jpg", "c.jpg"), unknown=1)


ROWS = (
    *(
        Row(f"`pairs`, {form}", "read", _pairs(content))
        for form, content in (
            ("CSV", PLAIN),
            ("semicolons, decimal commas", H.replace(",", ";") + "a.jpg;b.jpg;0,5;1;1\n"),
            ("tabs or bars", PLAIN.replace(",", "|")),
            ("`sep=;`", "sep=;\n" + PLAIN.replace(",", ";")),
            ("UTF-8 with a byte-order mark", PLAIN.encode("utf-8-sig")),
            ("UTF-16", PLAIN.encode("utf-16")),
            ("line ends of DOS or CR alone", PLAIN.replace("\n", "\r")),
            ("comments, blank rows, trailing commas", "# of COLMAP\n\n" + PLAIN + "\n,,,,\n"),
            (
                "headers quoted, spaced, in other case",
                '"Image_A", "IMAGE_B", Overlap\n"a.jpg", "b.jpg", 0.5\n',
            ),
            ("`50 %`", H + "a.jpg,b.jpg,50 %,1,1\n"),
            ("`images/` or `./` before all names, backslashes", H + "images/a.jpg,images\\b.jpg,0.5,1,1\n"),
        )
    ),
    Row(
        "`pairs`, Windows-1252",
        "read",
        _pairs(f"{H}é.jpg,b.jpg,0.5,1,1\n".encode("cp1252"), ("é.jpg", "b.jpg")),
    ),
    Row(
        "`pairs`, names with spaces, subfolders, quoted commas",
        "read: whole, `/` between folders",
        _pairs(H + '"IMG, 1.jpg",cam1\\0.jpg,0.5,1,1\n', ("IMG, 1.jpg", "cam1/0.jpg")),
    ),
    Row(
        "`pairs`, names that differ by case",
        "read: as two images",
        _pairs(H + "A.jpg,a.jpg,0.5,1,1\n", ("A.jpg", "a.jpg")),
    ),
    *(
        Row(f"`pairs`, {form} of an unregistered image", "read: the pair is unknown", _flags(*flags))
        for form, flags in (
            ("`0` or `0.0`", ("1.0", "0.0")),
            ("`False` or `no`", ("False", "yes")),
            ("empty", ("1", "")),
        )
    ),
    Row(
        "`pairs`, an overlap that is empty or NaN",
        "read: the pair is unknown",
        _pairs(f"{PLAIN}a.jpg,c.jpg,nan,1,1\n", ("a.jpg", "b.jpg", "c.jpg"), unknown=1),
    ),
    Row(
        "`pairs`, a pair given twice, or in both directions",
        "read: the largest, or as `symmetrise` says",
        _pairs(PLAIN + "b.jpg,a.jpg,0.25,1,1\na.jpg,b.jpg,0.125,1,1\n"),
    ),
    Row("`pairs`, an image with itself", "read: without that row", _pairs(PLAIN + "a.jpg,a.jpg,0.9,1,1\n")),
    Row(
        "`gl3d`, paths with spaces, subfolders, backslashes",
        "read: what follows `undist_images/`",
        _gl3d("/x/undist_images/a 1.jpg\n/x/undist_images\\b\\1.jpg\n", names=("a 1.jpg", "b/1.jpg")),
    ),
    Row("`gl3d`, comments, commas, `50 %`", "read", _gl3d(TWO, "# i j ratio\n0,1,0.5\n1 0 50%\n")),
    Row(
        "`one_dsfm`, names with spaces, `0 focal` after them",
        "read: the name",
        _one_dsfm(
            "images/a 0.jpg 0 812.5\nimages/b.jpg\n", f"0 1 {POSE}\n", ("images/a 0.jpg", "images/b.jpg")
        ),
    ),
    *(
        Row(form, line, attempt)
        for form, line, attempt in (
            (
                "a percentage without `%`",
                "which is not in 0..1; write percentages as 50 % or 0.5",
                _pairs(H + "a,b,50,1,1\n"),
            ),
            ("an overlap below 0 or above 1", "which is not in 0..1", _gl3d(TWO, "0 1 1.2\n")),
            ("a word for a number", "line 2: overlap is 'much', not a number", _pairs(H + "a,b,much,1,1\n")),
            (
                "another word for `reg_a`",
                "line 2: reg_a is 'maybe'; write 1 or 0",
                _pairs(H + "a,b,0.5,maybe,1\n"),
            ),
            (
                "a short row, or an unquoted delimiter in a name",
                "line 2: 2 cells where the header has 5",
                _pairs(H + "a,b\n"),
            ),
            ("an open quote", "line 2: unexpected end of data", _pairs(H + 'a.jpg,"c.jpg,0.5,1,1\n')),
            ("a column given twice", "is there twice", _pairs("image_a,image_b,overlap,image_a\n")),
            ("a column missing", "no column 'overlap'", _pairs("image_a,image_b\na,b\n")),
            ("an image twice in a list", "is listed before, on line 1", _gl3d(TWO + TWO)),
            (
                "an index beyond the list",
                "names image 5, but image_list.txt has 2, counted from 0",
                _gl3d(TWO, "0 5 0.4\n"),
            ),
            ("a path out of the folder", "leads out", _pairs(H + "../a,b,0.5,1,1\n")),
            ("a file cut to nothing", "lists no pair", _gl3d(TWO, "")),
            ("a binary file", "is a binary file", _pairs(b"\0\1\2")),
        )
    ),
)
