"""Overlap files as other programs write them: the right values, or one line that says where."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import ReaderError
from crater_ray_supscene.overlap.files import stamp
from crater_ray_supscene.overlap.graph import Edges, overlap_graph
from crater_ray_supscene.overlap.scenes import gl3d_scene, gl3d_scenes, one_dsfm_scene, pairs_scene

HEAD, PAIR = "image_a,image_b,overlap,reg_a,reg_b\n", "a.jpg,b.jpg,0.5,1,1\n"


def pairs(folder: Path, text: str, encoding: str = "utf-8") -> tuple[list[str], dict[str, float], set[str]]:
    """Names, known overlaps and unknown pairs by "first second"."""
    (folder / "pairs_gt.csv").write_bytes(text.encode(encoding))
    scene = pairs_scene(folder)

    def listed(edges: Edges) -> dict[str, float]:
        names = [(scene.uris[a], scene.uris[b]) for a, b in zip(edges.rows, edges.columns, strict=True)]
        return {" ".join(pair): w for pair, w in zip(names, edges.weights.tolist(), strict=True)}

    return list(scene.uris), listed(scene.edges), set(listed(scene.unknown))


@pytest.mark.parametrize("flags", ["1,0", "0,1", "1.0,0.0", "True,False", "true, 0", "1,", "yes,NO", "1,nan"])
def test_a_pair_with_an_unregistered_image_is_unknown_however_it_is_written(
    tmp_path: Path, flags: str
) -> None:
    _, known, unknown = pairs(tmp_path, f"{HEAD}{PAIR}a.jpg,c.jpg,0,{flags}\n")
    assert known == {"a.jpg b.jpg": 0.5}
    assert unknown == {"a.jpg c.jpg"}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (HEAD + PAIR, "utf-8-sig"),
        (HEAD + PAIR, "utf-16"),
        (HEAD.replace(",", ";") + "a.jpg;b.jpg;0,5;1;1\n", "utf-8"),
        ((HEAD + PAIR).replace(",", "\t"), "utf-8"),
        ((HEAD + PAIR).replace("\n", "\r\n"), "utf-8"),
        ((HEAD + PAIR).replace("\n", "\r"), "utf-8"),
        ("sep=;\n" + (HEAD + PAIR).replace(",", ";"), "utf-8"),
        ("# of COLMAP\n\n" + HEAD + PAIR + "\n,,,,\n", "utf-8"),
        ("#" + HEAD + PAIR, "utf-8"),
        ('"Image_A", "IMAGE_B", Overlap ,reg_a,reg_b,,\n"a.jpg", "b.jpg", 0.5 ,1,1,,\n', "utf-8"),
        ("reg_a,reg_b,overlap,image_b,image_a,note\n1,1,50 %,b.jpg,a.jpg,\n", "utf-8"),
        (HEAD.replace(",reg_a,reg_b", "") + "images/a.jpg,images\\b.jpg,0.5\n", "utf-8"),
        (HEAD + "./a.jpg,b.jpg,0.5,1,1\n", "utf-8"),
    ],
)
def test_a_table_of_another_program_is_the_same_table(tmp_path: Path, text: str, encoding: str) -> None:
    assert pairs(tmp_path, text, encoding) == (["a.jpg", "b.jpg"], {"a.jpg b.jpg": 0.5}, set())


def test_names_are_kept_whole(tmp_path: Path) -> None:
    rows = ["IMG 1.jpg,é.jpg", '"a,b.jpg",cam1/0.jpg', "cam2\\0.jpg,A.jpg", "a.jpg,#1.jpg", "\u2028.jpg,x"]
    names, _, _ = pairs(tmp_path, HEAD + "".join(f"{row},0,1,1\n" for row in rows))
    wanted = {"IMG 1.jpg", "é.jpg", "a,b.jpg", "cam1/0.jpg", "cam2/0.jpg"}
    assert set(names) == wanted | {"A.jpg", "a.jpg", "#1.jpg", "\u2028.jpg", "x"}
    assert pairs(tmp_path, f"{HEAD}é.jpg,b.jpg,0,1,1\n", "latin-1")[0] == ["b.jpg", "é.jpg"]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "null"])
def test_an_overlap_that_nobody_measured_is_unknown(tmp_path: Path, cell: str) -> None:
    _, known, unknown = pairs(tmp_path, f"{HEAD}{PAIR}a.jpg,c.jpg,{cell},1,1\n")
    assert (known, unknown) == ({"a.jpg b.jpg": 0.5}, {"a.jpg c.jpg"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + PAIR + "a.jpg,c.jpg\n", "line 3: 2 cells where the header has 5"),
        (HEAD + "a,b.jpg,c.jpg,0.5,1,1\n", "line 2: 6 cells where the header has 5"),
        (
            HEAD + PAIR + "a.jpg,c.jpg,50,1,1\n",
            "line 3: overlap is 50, which is not in 0..1; write percentages",
        ),
        (HEAD + "a.jpg,c.jpg,-1,1,1\n", "line 2: overlap is -1, which is not in 0..1"),
        (HEAD + "a.jpg,c.jpg,inf,1,1\n", "line 2: overlap is inf"),
        (HEAD + "a.jpg,c.jpg,much,1,1\n", "line 2: overlap is 'much', not a number"),
        (HEAD + "a.jpg,c.jpg,0.5,maybe,1\n", "line 2: reg_a is 'maybe'; write 1 or 0"),
        (HEAD + "a.jpg,c.jpg,0.5,1,7\n", "line 2: reg_b is '7'"),
        (HEAD + "../a.jpg,c.jpg,0.5,1,1\n", "line 2: '../a.jpg' leads out"),
        (HEAD + "C:\\a.jpg,c.jpg,0.5,1,1\n", r"leads out"),
        (HEAD + 'a.jpg,"c.jpg,0.5,1,1\n', "line 2: unexpected end of data"),
        ("image_a,image_b,overlap,overlap\na,b,0,1\n", "line 1: the column 'overlap' is there twice"),
        (HEAD, "lists no pair"),
        ("", "no column 'image_a'"),
        ("\0\1\2", "is a binary file"),
    ],
)
def test_a_table_that_does_not_hold_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReaderError) as raised:
        pairs(tmp_path, text)
    assert message in raised.value.message
    assert "pairs_gt.csv" in raised.value.message
    assert "\n" not in raised.value.message


def test_pairs_listed_twice_back_and_of_one_image(tmp_path: Path) -> None:
    text = HEAD + "a,b,0.2,1,1\na,b,0.4,1,1\nb,a,0.1,1,1\na,a,0.9,1,1\nc,c,0,0,0\na,c,1.0000001,1,1\n"
    (tmp_path / "pairs_gt.csv").write_text(text)
    scene = pairs_scene(tmp_path)
    graph = overlap_graph(3, scene.edges, scene.unknown)
    np.testing.assert_allclose(graph.block(np.arange(3)), [[1, 0.4, 1], [0.4, 1, 0], [1, 0, 1]])
    assert not graph.unknown_block(np.arange(3)).any()
    graph = overlap_graph(3, scene.edges, scene.unknown, how="mean")
    assert graph.block(np.arange(2))[0, 1] == pytest.approx(0.25)


@pytest.fixture
def gl3d(tmp_path: Path) -> Callable[..., list[str]]:
    def read(listed: str | bytes, overlaps: str = "0 1 0.4\n") -> list[str]:
        folder = tmp_path / "data" / "s"
        (folder / "geolabel").mkdir(parents=True, exist_ok=True)
        (folder / "image_list.txt").write_bytes(listed if isinstance(listed, bytes) else listed.encode())
        (folder / "geolabel" / "mesh_overlap.txt").write_text(overlaps)
        scene = gl3d_scene(tmp_path, "s")
        assert scene.edges.weights.tolist() == [np.float32(0.4)] * len(scene.edges.rows)
        return list(scene.uris)

    return read


@pytest.mark.parametrize(
    "names", [["IMG 1.jpg", "IMG 2.jpg"], ["cam1/0.jpg", "cam2/0.jpg"], ["a.jpg", "A.jpg"]]
)
@pytest.mark.parametrize("slash", ["/", "\\"])
@pytest.mark.parametrize(
    "before", ["data/s/undist_images/", "undist_images/", "/home/x/undist_images/", "./", ""]
)
def test_an_image_of_gl3d_is_what_follows_its_folder(
    gl3d: Callable[..., list[str]], names: list[str], slash: str, before: str
) -> None:
    assert gl3d("".join(f"{before}{name}\n".replace("/", slash) for name in names)) == names


def test_files_of_gl3d_and_1dsfm_that_do_not_hold_say_where(
    gl3d: Callable[..., list[str]], tmp_path: Path
) -> None:
    two = "undist_images/0.jpg\nundist_images/1.jpg\n"
    assert gl3d(codecs.BOM_UTF8 + two.encode()) == ["0.jpg", "1.jpg"]
    assert gl3d(two, "# i j ratio\n0.0e+00 1.0e+00 4.0e-01\r\n\r\n0,1,0.4\n1 0 40% 7\n") == ["0.jpg", "1.jpg"]
    for overlaps, message in {
        "0 1 0.4\n\n0 2 0.4\n": r"line 3 names image 2, but image_list.txt has 2, counted from 0",
        "-1 1 0.4\n": "line 1 names image -1",
        "0 1 1.5\n": r"line 1: the overlap is 1.5, which is not in 0..1",
        "0 1 -0.5\n": r"which is not in 0..1",
        "0 1 nan\n": "'0 1 nan' is not 'image image overlap'",
        "0 1\n": "'0 1' is not 'image image overlap'",
        "0 1 0,4x\n": "the overlap is '0,4x', not a number",
        "0.5 1 0.4\n": "'0.5 1 0.4' is not",
        "inf 1 0.4\n": "'inf 1 0.4' is not",
        "": "mesh_overlap.txt lists no pair",
    }.items():
        with pytest.raises(ReaderError) as raised:
            gl3d(two, overlaps)
        assert message in raised.value.message
    for listed, message in {
        two + "undist_images\\0.jpg\n": r"line 3: '0.jpg' is listed before, on line 1",
        "": "image_list.txt lists no image",
        "/somewhere/0.jpg\n": "line 1: '/somewhere/0.jpg' leads out",
    }.items():
        with pytest.raises(ReaderError) as raised:
            gl3d(listed)
        assert message in raised.value.message
    (tmp_path / "scenes.txt").write_text("s\nt 1\ns\n")
    with pytest.raises(ReaderError, match="line 3: 's' is listed before, on line 1"):
        gl3d_scenes(tmp_path, Path("scenes.txt"))
    turn = "1 0 0 0 1 0 0 0 1 0.1 0.2 0.3"
    (tmp_path / "EGs.txt").write_text(f"0 1 {turn}\n0 3 {turn}\n")
    names = ["images/IMG 0.jpg", "images/IMG 1.jpg", "images/b 0.jpg"]
    (tmp_path / "list.txt").write_text(f"{names[0]} 0 812.5\n{names[1]}\n{names[2]} 0\n")
    with pytest.raises(ReaderError, match=r"EGs.txt, line 2 names image 3, but list.txt has 3"):
        one_dsfm_scene(tmp_path)
    (tmp_path / "EGs.txt").write_text(f"0 1 {turn}\n")
    assert one_dsfm_scene(tmp_path).uris == names


def test_a_stamp_changes_when_the_image_does(tmp_path: Path) -> None:
    assert stamp(tmp_path, "a.png") == stamp(tmp_path, "b/a.png") == "gone"
    (tmp_path / "a.png").write_bytes(b"one")
    first = stamp(tmp_path, "a.png")
    (tmp_path / "a.png").write_bytes(b"three")
    assert first != stamp(tmp_path, "a.png") != "gone"
