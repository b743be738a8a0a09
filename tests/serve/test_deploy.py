"""What is deployed: by import path, under one name of its code, spread evenly; and why a replica died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from crater_ray.errors import ClusterError, ConfigError, DamagedIndex
from crater_ray.index.segments import read_segment
from crater_ray.index.store import store_at
from crater_ray.serve.command import _reason, served_below
from crater_ray.serve.settings import settings
from crater_ray.serve.shards import spread

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ray.serve, when it is imported


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_every_segment_has_one_shard_and_bytes_are_even(root: Path, shards: int) -> None:
    given = spread(root, 2, shards)
    assert len(given) == shards
    every = [sha for shas in given for sha in shas]
    assert sorted(every) == sorted(spread(root, 2, 1)[0])
    loads = [sum(read_segment(store_at(root), sha).rows for sha in shas) for shas in given]
    assert max(loads) <= max(20, 43 / shards + 20)  # the largest segment is whole
    if shards == 2:
        assert sorted(loads) == [20, 23]


def test_the_file_for_serve_deploy_is_one() -> None:
    from ray.serve.schema import ServeDeploySchema

    told = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text()))
    (app,) = told.applications
    module, _, name = app.import_path.partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    assert settings(app.args).serve.shards == 2


def test_the_same_code_is_deployed_whatever_the_version(root: Path) -> None:
    from crater_ray.serve.deploy import bound

    wanted = settings({"index": str(root), "no_auth": True, "serve": {"shards": 2}})

    def deployments(version: int, held: tuple[int, ...], code: str | None = None) -> dict[str, Any]:
        from ray.serve._private.build_app import build_app

        built = build_app(bound(wanted, version, held, code), name="x", default_runtime_env={})
        return {one.name: one for one in built.deployments}

    first, second = deployments(1, (1,)), deployments(2, (1, 2))
    assert set(first) == {"ingress", "encoder", "searcher-0", "searcher-1"}
    assert {one._version for one in (*first.values(), *second.values())} == {first["ingress"]._version}
    assert second["searcher-1"].user_config == {"versions": [1, 2]}
    assert second["ingress"].user_config == {"version": 2, "held": [1, 2]}
    assert {one._version for one in deployments(1, (1,), "named").values()} == {"named"}


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "index"),
        ({"index": "x"}, "token_file"),
        ({"index": "x", "no_auth": True, "token_file": "y"}, "token_file"),
        ({"index": "x", "no_auth": True, "shard": 2}, "shard"),
        ({"index": "x", "no_auth": True, "serve": {"shards": 0}}, "shards"),
    ],
)
def test_arguments_that_do_not_hold_are_named(plain: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(plain)


def test_a_replicas_error_is_found_in_what_serve_says() -> None:
    text = (
        "Deploying application crater-ray failed: searcher-0 failed to start 3 times. Error:\\n"
        "ray.exceptions.RayTaskError(DamagedIndex): ray::init\\n  File …\\n"
        "crater_ray.errors.DamagedIndex: parts/a/codes.bin does not match its checksum"
    ).replace("\\n", "\n")
    found = _reason(text)
    assert isinstance(found, DamagedIndex)
    assert found.message == "parts/a/codes.bin does not match its checksum"
    assert isinstance(_reason("something else"), ClusterError)


def test_the_same_application_in_one_process(root: Path) -> None:
    from starlette.testclient import TestClient

    from crater_ray.retrieve import Index
    from crater_ray.serve.local import local

    wanted = settings({"index": str(root), "no_auth": True, "serve": {"shards": 3, "threads": 1}})
    client = TestClient(local(wanted), base_url="http://127.0.0.1")
    told = client.post("/v1/search", json={"id": "i0001", "top": 5}).json()
    hits = Index(root, threads=1).search(id="i0001", top=5)
    assert [hit["id"] for hit in told["hits"]] == [hit.id for hit in hits]
    assert client.put("/v1/index/version", json={"version": 1}).status_code == 409


def test_a_change_of_version_is_three_steps(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searchers hold both, ingresses pin the new one, and only after the request timeout the old one goes."""
    from crater_ray.serve import deploy, reload

    wanted = settings({"index": str(root), "no_auth": True, "serve": {"timeout_s": 7.0}})
    steps: list[Any] = []
    monkeypatch.setattr(deploy, "running", lambda app: ("the code that runs", 1, (1,)))
    monkeypatch.setattr(deploy, "bound", lambda wanted, version, held, code: (version, held, code))
    reload.change(wanted, 1, 2, lambda app, **more: steps.append((*app, more["name"])), steps.append)
    named = ("the code that runs", "crater-ray")
    assert steps == [(1, (1, 2), *named), (2, (1, 2), *named), 7.0, (2, (2,), *named)]


def test_the_path_it_is_answered_below() -> None:
    assert [served_below(path) for path in ("/", "", "moon", "/moon/", "//a//b")] == [
        "/",
        "/",
        "/moon",
        "/moon",
        "/a/b",
    ]
    for path in ("/a b", "/{id}", "/a/../b", "/a?b", "/ä"):
        with pytest.raises(ConfigError, match="--prefix"):
            served_below(path)
