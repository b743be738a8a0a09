"""Overlap graphs against their definition, the files they come from, and areas against a count of points."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from crater_ray.errors import ReaderError
from crater_ray_supscene.overlap.footprints import footprint_edges
from crater_ray_supscene.overlap.graph import Edges, overlap_graph
from crater_ray_supscene.overlap.scenes import gl3d_scene, gl3d_scenes, one_dsfm_scene, pairs_scene

DATA = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def edges(*found: tuple[int, int, float]) -> Edges:
    rows, columns, weights = zip(*found, strict=True)
    return Edges(np.array(rows), np.array(columns), np.array(weights, np.float32))


@pytest.mark.parametrize(("how", "both"), [("max", 0.447471), ("mean", (0.447471 + 0.0652112) / 2)])
def test_an_asymmetric_overlap_becomes_symmetric_and_is_never_transposed(how, both) -> None:  # type: ignore[no-untyped-def]
    """dense_overlap as published keeps the last of two writes, so that O[i, j] becomes w(j, i)."""
    graph = overlap_graph(3, edges((0, 1, 0.447471), (1, 0, 0.0652112), (1, 2, 0.3)), how=how)
    expected = np.array([[1, both, 0], [both, 1, 0.3], [0, 0.3, 1]], np.float32)
    np.testing.assert_allclose(graph.block(np.arange(3)), expected)
    swapped = overlap_graph(3, edges((1, 2, 0.3), (1, 0, 0.0652112), (0, 1, 0.447471)), how=how)
    np.testing.assert_array_equal(swapped.block(np.arange(3)), graph.block(np.arange(3)))


def test_a_block_may_hold_an_image_twice_and_keeps_what_is_unknown() -> None:
    graph = overlap_graph(4, edges((0, 1, 0.5), (0, 1, 0.4), (2, 2, 0.9)), edges((3, 1, 0.0)))
    rows = np.array([1, 0, 1, 3])
    expected = [[1, 0.5, 1, 0], [0.5, 1, 0.5, 0], [1, 0.5, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(graph.block(rows), expected)
    unknown = np.zeros((4, 4), bool)
    unknown[[0, 2, 3, 3], [3, 3, 0, 2]] = True
    np.testing.assert_array_equal(graph.unknown_block(rows), unknown)
    assert graph.neighbours(0, 0.5).tolist() == [1]
    assert graph.neighbours(0, 0.51).tolist() == []


def test_edges_that_do_not_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images 0\.\.3 of 3"):
        overlap_graph(3, edges((0, 3, 0.1)))
    with pytest.raises(ValueError, match=r"not in 0\.\.1"):
        overlap_graph(3, edges((0, 1, 1.5)))


def test_gl3d_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "57f8d9bbe73f6760f10e916a"
    (folder / "geolabel").mkdir(parents=True)
    (folder / "image_list.txt").write_text("undist_images/00000000.jpg\nundist_images/00000001.jpg\n")
    (folder / "geolabel" / "mesh_overlap.txt").write_text("0 1 0.447471\n1 0 0.0652112\n")
    (folder / "geolabel" / "common_track.txt").write_text("0 1 0.2\n")
    (tmp_path / "list" / "gl3d").mkdir(parents=True)
    (tmp_path / "list" / "gl3d" / "imageset_test.txt").write_text(f"{folder.name}\n")
    (name,) = gl3d_scenes(tmp_path, Path("list/gl3d/imageset_test.txt"))
    scene = gl3d_scene(tmp_path, name)
    assert scene.uris == ["00000000.jpg", "00000001.jpg"]
    assert scene.root == folder / "undist_images"
    graph = overlap_graph(2, scene.edges)
    assert graph.block(np.arange(2))[0, 1] == np.float32(0.447471)
    assert gl3d_scene(tmp_path, name, "common_track").edges.weights.tolist() == [np.float32(0.2)]
    (folder / "geolabel" / "mesh_overlap.txt").write_text("0 1 0.4\n0 x 0.1\n")
    with pytest.raises(ReaderError, match=r"mesh_overlap.txt, line 2: '0 x 0.1'"):
        gl3d_scene(tmp_path, name)
    (folder / "geolabel" / "mesh_overlap.txt").write_text("0 7 0.4\n")
    with pytest.raises(ReaderError, match="names image 7"):
        gl3d_scene(tmp_path, name)
    with pytest.raises(ReaderError, match="cannot read"):
        gl3d_scene(tmp_path, "elsewhere")


def test_1dsfm_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("images/a.jpg 0 812.5\nimages/b.jpg\nimages/c.jpg 0\n")
    turn = "1 0 0 0 1 0 0 0 1 0.1 0.2 0.3"
    (tmp_path / "EGs.txt").write_text(f"0 2 {turn}\n1 2 {turn}\n")
    scene = one_dsfm_scene(tmp_path)
    assert scene.uris == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
    expected = [[1, 0, 1], [0, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(overlap_graph(3, scene.edges).block(np.arange(3)), expected)


def test_a_pairs_file_that_does_not_hold_says_where(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="cannot read"):
        pairs_scene(tmp_path)
    (tmp_path / "pairs_gt.csv").write_text("image_a,image_b,overlap\na.jpg,b.jpg,much\n")
    with pytest.raises(ReaderError, match=r"line 2: overlap is 'much'"):
        pairs_scene(tmp_path)
    with pytest.raises(ReaderError, match="no column 'overlap_iou'"):
        pairs_scene(tmp_path, "overlap_iou")


@pytest.mark.real
def test_the_real_scenes_are_read() -> None:
    if not (DATA / "sfm").is_dir():
        pytest.skip(f"{DATA / 'sfm'} is absent; set CRATER_RAY_DATA")
    for name, images, unregistered in (("caliterra", 75, 0), ("copr", 41, 3), ("boruszyn", 27, 0)):
        scene = pairs_scene(DATA / "sfm" / name)
        assert len(scene.uris) == images
        assert all((scene.root / uri).is_file() for uri in scene.uris)
        graph = overlap_graph(images, scene.edges, scene.unknown)
        block = graph.unknown_block(np.arange(images))
        assert (block.sum(1) == images - 1).sum() == unregistered


def inside(points: np.ndarray, lat: float, lon: float, half: float, rotation: float) -> np.ndarray:
    """Whether unit vectors lie in a view, by projecting each as a renderer would."""
    phi, away, turn = np.radians([lat, lon, rotation])
    east = points @ [-np.sin(away), np.cos(away), 0]
    north = points @ [-np.sin(phi) * np.cos(away), -np.sin(phi) * np.sin(away), np.cos(phi)]
    toward = points @ [np.cos(phi) * np.cos(away), np.cos(phi) * np.sin(away), np.sin(phi)]
    right, up = east * np.cos(turn) - north * np.sin(turn), east * np.sin(turn) + north * np.cos(turn)
    return (np.abs(right) <= half) & (np.abs(up) <= half) & (toward > 0)


def test_the_overlap_of_views_is_that_of_points_strewn_on_the_sphere() -> None:
    views = [
        (40.0, 179.0, 0.30, 20.0),
        (45.0, -170.0, 0.20, 0.0),
        (40.5, 178.0, 0.05, 45.0),  # inside the first
        (-80.0, 10.0, 0.10, 0.0),  # elsewhere
        (39.0, 150.0, 0.25, -10.0),
        (89.0, 0.0, 0.50, 0.0),  # over the pole
    ]
    lat, lon, half, rotation = np.array(views).T
    count = 1_500_000
    z = np.linspace(-1, 1, count)
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))  # Fibonacci's lattice: equal areas
    ring = np.sqrt(1 - z * z)
    points = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], 1)
    masks = [inside(points, *view) for view in views]
    found = footprint_edges(lat, lon, half, rotation)
    overlaps = {(i, j): w for i, j, w in zip(found.rows, found.columns, found.weights, strict=True)}
    for i in range(len(views)):
        for j in range(i + 1, len(views)):
            shared = (masks[i] & masks[j]).sum() / min(masks[i].sum(), masks[j].sum())
            assert overlaps.pop((i, j), 0.0) == pytest.approx(shared, abs=3e-3)
    assert not overlaps


def test_small_views_overlap_as_squares_on_a_plane() -> None:
    half = 0.001
    shift = np.degrees(half)  # half a width along the meridian
    found = footprint_edges(np.array([0.0, shift, shift]), np.zeros(3), np.array([half, half, half / 2]))
    overlaps = {(i, j): w for i, j, w in zip(found.rows, found.columns, found.weights, strict=True)}
    assert overlaps == pytest.approx({(0, 1): 0.5, (0, 2): 0.5, (1, 2): 1.0}, abs=1e-4)


def test_a_view_beyond_the_limb_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond the limb"):
        footprint_edges(np.zeros(1), np.zeros(1), np.array([0.75]))
