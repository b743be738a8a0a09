"""What an operator applies holds: strict schemas, one planted wrong field each, and names that agree."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crater_ray.config import load_job
from crater_ray.errors import ConfigError
from crater_ray.serve.settings import settings

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
CRDS = Path(os.environ.get("CRATER_RAY_KUBERAY", ROOT.parent / "shared" / "kuberay"))
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# file, and where in it a field that is not there is planted
RAY = {
    "raycluster.yaml": ("spec", "workerGroupSpecs", 0, "replica"),
    "rayjob.yaml": (
        "spec",
        "rayClusterSpec",
        "headGroupSpec",
        "template",
        "spec",
        "containers",
        0,
        "imagePolicy",
    ),
    "rayservice.yaml": ("spec", "rayClusterConfig", "authOptions", "modes"),
}
LAUNCHER = {
    "local.yaml": ("docker", "run_option"),
    "aws.yaml": ("available_node_types", "encoder", "min_worker"),
}
PLAIN = {
    "networkpolicy.yaml": ("spec", "ingres"),
    "storage.yaml": ("spec", "accessMode"),
}

WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = {"type": "object", "additionalProperties": False, "properties": {"matchLabels": WORDS}}


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


NAMED = closed(("name",), name={"type": "string"}, namespace={"type": "string"}, labels=WORDS)
PEER = closed(podSelector=SELECTOR, namespaceSelector=SELECTOR)
PORT = closed(("port",), protocol={"enum": ["TCP", "UDP"]}, port={"type": "integer"})
KINDS = {  # what is used of Kubernetes' own kinds: no schema of theirs is at hand
    "Namespace": closed(("metadata",), apiVersion={"const": "v1"}, kind={}, metadata=NAMED),
    "PersistentVolumeClaim": closed(
        ("metadata", "spec"),
        apiVersion={"const": "v1"},
        kind={},
        metadata=NAMED,
        spec=closed(
            ("accessModes", "resources"),
            accessModes=many({"enum": ["ReadWriteMany"]}),
            storageClassName={"type": "string"},
            resources=closed(requests=closed(storage={"type": "string", "pattern": "^[0-9]+[GT]i$"})),
        ),
    ),
    "NetworkPolicy": closed(
        ("metadata", "spec"),
        apiVersion={"const": "networking.k8s.io/v1"},
        kind={},
        metadata=NAMED,
        spec=closed(
            ("podSelector", "policyTypes"),
            podSelector=SELECTOR,
            policyTypes=many({"enum": ["Ingress", "Egress"]}),
            ingress=many(
                {**closed(ports=many(PORT)), "properties": {"from": many(PEER), "ports": many(PORT)}}
            ),
            egress=many(closed(to=many(PEER), ports=many(PORT))),
        ),
    ),
}


def documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=LOADER))


def planted(document: Any, place: tuple[Any, ...]) -> Any:
    """A copy with a field that nobody knows."""
    wrong = copy.deepcopy(document)
    at = wrong
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = "wrong"
    return wrong


@cache
def crds() -> dict[str, Any]:
    """kind -> its strict schema."""
    if not CRDS.is_dir():
        pytest.skip(
            f"KubeRay's definitions are not at {CRDS}; set CRATER_RAY_KUBERAY to the folder that has them"
        )
    found = {}
    for path in sorted(CRDS.glob("ray.io_*.yaml")):
        definition = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)["spec"]
        version = next(version for version in definition["versions"] if version["name"] == "v1")
        found[definition["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden wherever it says which there are."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {key: strict(value) for key, value in schema.items()}
    known = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if known and not schema.get("x-kubernetes-preserve-unknown-fields"):
        tight.setdefault("additionalProperties", False)
    return tight


@pytest.mark.parametrize("name", RAY)
def test_kuberays_own_definitions_take_it_and_not_one_field_more(name: str) -> None:
    (document,) = documents(KUBERAY / name)
    schema = crds()[document["kind"]]
    assert document["apiVersion"] == "ray.io/v1"
    validator = jsonschema.validators.validator_for(schema)(schema)  # `validate` checks a megabyte each time
    validator.validate(document)
    with pytest.raises(jsonschema.ValidationError) as wrong:
        validator.validate(planted(document, RAY[name]))
    assert f"'{RAY[name][-1]}' was unexpected" in wrong.value.message


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_kubernetes_own_holds_and_not_one_field_more(name: str) -> None:
    every = documents(KUBERAY / name)
    for document in every:
        jsonschema.validate(document, KINDS[document["kind"]])
    last = every[-1]
    with pytest.raises(jsonschema.ValidationError, match=f"'{PLAIN[name][-1]}' was unexpected"):
        jsonschema.validate(planted(last, PLAIN[name]), KINDS[last["kind"]])


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_launchers_own_schema_takes_it_and_not_one_field_more(name: str) -> None:
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    (document,) = documents(CLUSTER / "launcher" / name)
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError, match=f"'{LAUNCHER[name][-1]}' was unexpected"):
        jsonschema.validate(planted(document, LAUNCHER[name]), schema)
    types = document.get("available_node_types", {})
    assert sum(one.get("min_workers", 0) for one in types.values()) <= document["max_workers"]
    assert document.get("head_node_type", "head") in (types or {"head": {}})


def serve_configs() -> dict[str, Any]:
    (service,) = documents(KUBERAY / "rayservice.yaml")
    (plain,) = documents(CLUSTER / "serve.yaml")
    return {
        "serve.yaml": plain,
        "serveConfigV2": yaml.load(service["spec"]["serveConfigV2"], Loader=LOADER),
    }


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # Ray's own schema is older
@pytest.mark.parametrize("name", ["serve.yaml", "serveConfigV2"])
def test_rays_own_schema_takes_the_serve_config_and_ours_its_arguments(name: str) -> None:
    from pydantic import ValidationError
    from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

    config = serve_configs()[name]
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    for told, schema in (
        (config, ServeDeploySchema),
        (application, ServeApplicationSchema),
        (config["http_options"], HTTPOptionsSchema),
    ):
        assert set(told) <= set(schema.model_fields)  # Ray lets pass what it does not know
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate({**config, "http_options": {"port": "eight thousand"}})

    wanted = settings(application["args"])
    assert wanted.token_file is not None
    module, _, factory = application["import_path"].partition(":")
    assert hasattr(importlib.import_module(module), factory)
    wrong = {**application["args"], "serve": {**application["args"]["serve"], "shard": 2}}
    with pytest.raises(ConfigError, match="did you mean 'shards'"):
        settings(wrong)


@pytest.mark.parametrize("body", ["moon", "mars"])
def test_the_jobs_are_jobs(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("crater_ray_mosaic", reason="the plugin crater-ray-mosaic is not installed")
    pytest.importorskip("crater_ray_offline", reason="the plugin crater-ray-offline is not installed")
    job = load_job(CLUSTER / "jobs" / f"{body}.toml")
    assert job.cluster.address == "auto"
    assert str(job.out) == f"/data/indexes/{body}"
    assert job.backbone_ref().distribution == "crater-ray-offline"  # no node asks a model hub
    with pytest.raises(ConfigError, match="did you mean 'raster'"):
        load_job(job.path, ["reader.rastr=x.tif"])


def ray_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, key in (("raycluster", None), ("rayjob", "rayClusterSpec"), ("rayservice", "rayClusterConfig")):
        (document,) = documents(KUBERAY / f"{name}.yaml")
        yield name, document["spec"] if key is None else document["spec"][key]


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def test_names_agree_over_all_files() -> None:
    stored = {document["kind"]: document for document in documents(KUBERAY / "storage.yaml")}
    claim, namespace = (stored[kind]["metadata"]["name"] for kind in ("PersistentVolumeClaim", "Namespace"))
    images = set()
    for path in sorted(KUBERAY.glob("*.yaml")):
        for document in documents(path):
            assert document["metadata"].get("namespace", namespace) == namespace
    for _, spec in ray_specs():
        assert spec["authOptions"] == {"mode": "token"}
        for pod in pods(spec):
            (container,) = pod["spec"]["containers"]
            images.add(container["image"])
            claims = [
                volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"]["volumes"]
            ]
            assert claim in claims
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    (local,) = documents(CLUSTER / "launcher" / "local.yaml")
    assert images == {local["docker"]["image"]}
    (job,) = documents(KUBERAY / "rayjob.yaml")
    assert "/etc/crater-ray/jobs/moon.toml" in job["spec"]["entrypoint"]
    assert "COPY cluster/jobs /etc/crater-ray/jobs" in (CLUSTER / "Dockerfile").read_text()


def test_the_cluster_has_what_the_job_asks_for() -> None:
    pytest.importorskip("crater_ray_mosaic", reason="the plugin crater-ray-mosaic is not installed")
    table = load_job(CLUSTER / "jobs" / "moon.toml").cluster
    for name, spec in ray_specs():
        groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
        group = groups["encoders"]
        cpus, gpus = (float(group["rayStartParams"][key]) for key in ("num-cpus", "num-gpus"))
        assert gpus == 1.0
        assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        others = [one for one in groups.values() if one is not group]
        assert all("num-gpus" not in one["rayStartParams"] for one in others)
        if name != "rayservice":
            assert group["replicas"] * gpus >= table.encoders * table.gpus_per_encoder
            assert cpus >= table.cpus_per_encoder
            assert spec["enableInTreeAutoscaling"] is False


def test_the_service_fits_its_cluster() -> None:
    wanted = settings(serve_configs()["serveConfigV2"]["applications"][0]["args"])
    (_, _, (_, spec)) = ray_specs()
    cpus = sum(
        group["replicas"] * float(group["rayStartParams"]["num-cpus"]) for group in spec["workerGroupSpecs"]
    )
    gpus = sum(
        group["replicas"] * float(group["rayStartParams"].get("num-gpus", 0))
        for group in spec["workerGroupSpecs"]
    )
    table = wanted.serve
    replicas = table.shards * table.replicas + table.encoders + table.ingresses
    assert replicas * table.cpus_per_replica <= cpus
    assert table.encoders * table.gpus_per_encoder <= gpus
    for pod in pods(spec):
        secrets = [volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert secrets == ["crater-ray-tokens"]
        assert {"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "1"} in pod["spec"]["containers"][0]["env"]


def test_everything_is_denied_and_then_some_is_allowed() -> None:
    policies = {
        document["metadata"]["name"]: document["spec"]
        for document in documents(KUBERAY / "networkpolicy.yaml")
    }
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ours = {"app.kubernetes.io/part-of": "crater-ray"}
    labels = [pod["metadata"]["labels"] for _, spec in ray_specs() for pod in pods(spec)]
    (job,) = documents(KUBERAY / "rayjob.yaml")
    labels.append(job["spec"]["submitterPodTemplate"]["metadata"]["labels"])
    for policy in policies.values():
        wanted = policy["podSelector"].get("matchLabels", {})
        assert not wanted or wanted.items() >= ours.items()
    assert all(label.items() >= ours.items() for label in labels)
    everyone = [
        rule
        for name, policy in policies.items()
        for rule in (*policy.get("ingress", []), *policy.get("egress", []))
        if not (rule.get("from") or rule.get("to"))
    ]
    assert everyone == []  # no rule is for the whole world
    assert policies["callers"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8000}]
    service = policies["callers"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
    by_name = dict(ray_specs())
    assert {
        pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods(by_name["rayservice"])
    } == {service}


def test_the_image_has_every_plugin_of_the_tree() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    assert "for package in . plugins/crater-ray-*" in text
    assert all((folder / "pyproject.toml").is_file() for folder in (ROOT / "plugins").glob("crater-ray-*"))
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    for source in [name for names in copied for name in names]:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_the_readme_names_every_file_there_is() -> None:
    text = (CLUSTER / "README.md").read_text()
    for path in sorted(CLUSTER.rglob("*")):
        if path.is_file() and path.name not in {"README.md", "Dockerfile.dockerignore"}:
            assert str(path.relative_to(CLUSTER)) in text
