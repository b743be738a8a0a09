from __future__ import annotations

import json
from dataclasses import replace

import pytest

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.index.config import create_or_check, file_digests, find_config, read_config, without_paths
from crater_ray.index.store import store_at
from crater_ray.plugins import PluginRef


def test_what_is_written_is_read_back(tmp_path, config):
    config = replace(config, fits={"shortlist": "f00"})
    assert find_config(store_at(tmp_path)) is None
    create_or_check(store_at(tmp_path / "new" / "index"), config)
    assert read_config(store_at(tmp_path / "new" / "index")) == config


def test_where_a_file_lies_does_not_count_what_it_holds_does(tmp_path, config):
    moved = replace(config, backbone=replace(config.backbone, options={"model": "vit", "weights": "/w"}))
    assert moved.digest() == config.digest()
    assert replace(config, backbone_digest="abd").digest() != config.digest()
    rerank = PluginRef("aggregator", "vocabulary", {"words": "/a"}, "m", "d", "1")
    one = replace(config, rerank=rerank, files={"rerank.words": "123"})
    assert one.digest() == replace(one, rerank=replace(rerank, options={"words": "/b"})).digest()
    assert one.digest() != replace(one, files={"rerank.words": "124"}).digest()
    assert one.digest() != replace(one, rerank=replace(rerank, options={"words": "/a", "n": 2})).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch": 4},
        {"precision": "fp32"},
        {"codec": "fp16"},
        {"codec_version": 2},
        {"k": 3},
        {"fits": {"rerank": "1"}},
        {"side": "query"},
        {"grid": (2, 3)},
        {"max_pixels": 7},
    ],
)
def test_each_field_counts(config, change):
    assert replace(config, **change).digest() != config.digest()


def test_the_release_of_a_package_does_not_count_what_it_computes_does(config):
    released = replace(config, rerank=replace(config.rerank, version="7.0", module="moved"))
    assert released.digest() == config.digest()
    assert replace(config, rerank=replace(config.rerank, algorithm_version=2)).digest() != config.digest()


def test_a_moved_weights_file_is_followed(tmp_path, config):
    create_or_check(store_at(tmp_path), config)
    moved = replace(config, backbone=replace(config.backbone, options={"model": "vit", "weights": "/w"}))
    create_or_check(store_at(tmp_path), moved)
    assert read_config(store_at(tmp_path)).backbone.options["weights"] == "/w"


def test_another_config_names_the_keys(tmp_path, config):
    create_or_check(store_at(tmp_path), config)
    other = replace(config, rerank=replace(config.rerank, options={"k": 64, "heads": "mean"}), batch=4)
    message = r"batch is 8 there and 4 in this job, rerank.options.k is 2 there and 64"
    with pytest.raises(IndexMismatch, match=message) as caught:
        create_or_check(store_at(tmp_path), other)
    assert "name another `out`" in caught.value.message
    assert read_config(store_at(tmp_path)) == config


def test_a_newer_format(tmp_path, config):
    create_or_check(store_at(tmp_path), config)
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "surprise": 1}))
    for act in (lambda: read_config(store_at(tmp_path)), lambda: create_or_check(store_at(tmp_path), config)):
        with pytest.raises(IndexMismatch, match=r"newer crater-ray \(format 2, this one reads 1\); upgrade"):
            act()


def test_a_folder_that_is_not_an_index(tmp_path, config):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(IndexMismatch, match=r"is not an index: it holds a.jpg, b.jpg, c.jpg and 1 more"):
        create_or_check(store_at(tmp_path), config)
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(IndexMismatch, match="it is a file"):
        create_or_check(store_at(tmp_path / "a.jpg"), config)
    with pytest.raises(IndexMismatch, match=r"nothing is there; make one with `crater-ray index"):
        read_config(store_at(tmp_path / "nowhere"))


def test_a_foreign_config_json(tmp_path):
    (tmp_path / "index.json").write_text('{"pancakes": 4}')
    with pytest.raises(IndexMismatch, match=r"is not an index: its index.json is not one of crater-ray's"):
        read_config(store_at(tmp_path))


def test_a_config_changed_by_hand(tmp_path, config):
    create_or_check(store_at(tmp_path), config)
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace('"k": 2', '"k": 3'))
    with pytest.raises(DamagedIndex, match=r"index.json does not match its checksum"):
        read_config(store_at(tmp_path))


def test_a_lost_config(tmp_path, config, make):
    make.index(tmp_path, config, {"a": 2})
    (tmp_path / "index.json").unlink()
    with pytest.raises(DamagedIndex, match=r"index.json is missing beside the parts"):
        create_or_check(store_at(tmp_path), config)


def test_fits_before_the_config_do_not_make_a_folder_foreign(tmp_path, config):
    (tmp_path / "fitted").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / ".lock").touch()
    create_or_check(store_at(tmp_path), config)
    assert read_config(store_at(tmp_path)) == config


def test_file_digests_ask_the_registry(tmp_path, config):
    assert file_digests(backbone=config.backbone, shortlist=config.shortlist) == {"backbone.weights": ""}
    assert without_paths(config.backbone).options == {"model": "vit"}
    options = {"path": str(tmp_path / "a.csv"), "root": None}
    reader = PluginRef("reader", "manifest", options, "m", "crater-ray", "1")
    (tmp_path / "a.csv").write_text("id")
    found = file_digests(rerank=reader)  # any plugin with a file option does
    assert list(found) == ["rerank.path"]
    (tmp_path / "a.csv").write_text("ie")
    assert file_digests(rerank=reader) != found
    (tmp_path / "a.csv").unlink()
    with pytest.raises(IndexMismatch, match=r"manifest.path names .*a.csv, which cannot be read"):
        file_digests(rerank=reader)
