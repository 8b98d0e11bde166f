"""Cluster files against the schemas of who reads them: `ray up`, Kubernetes, KubeRay, Ray's autoscaler."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
from kuberay_schema import RAY_CLUSTER, RAY_JOB
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from segsweep.jobs.working_dir import DEFAULT_EXCLUDES

ROOT = Path(__file__).parents[1]
AWS = [ROOT / "cluster.yaml", ROOT / "clusters" / "aws.yaml"]
RAY_UP = [*AWS, ROOT / "clusters" / "onpremise.yaml"]
KUBERNETES = [ROOT / "clusters" / "kuberay-cluster.yaml", ROOT / "clusters" / "kuberay-job.yaml"]
KUBERNETES_VERSION = "1.33"


def _read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def _documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


def _name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", RAY_UP, ids=_name)
def test_ray_up_accepts_the_file(path: Path) -> None:
    validate_config(prepare_config(_read(path)))


@pytest.mark.parametrize("path", RAY_UP, ids=_name)
def test_a_misspelt_setting_would_be_found(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config({**_read(path), "setup_comands": []}))


@pytest.mark.parametrize("path", RAY_UP, ids=_name)
def test_token_authentication_is_on_and_everything_listens_on_loopback(path: Path) -> None:
    config = _read(path)
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    (start_head,) = [command for command in head if "ray start" in command]
    (start_worker,) = [command for command in worker if "ray start" in command]
    (mlflow,) = [command for command in head if "segsweep ui" in command]
    for command in (start_head, start_worker):
        assert re.search(r"export [^;]*RAY_AUTH_MODE=token[^;]*;", command)
        assert re.search(r"export [^;]*SEGSWEEP_STORAGE=/data/segsweep[^;]*;", command)
    assert "--dashboard-host=127.0.0.1" in start_head
    assert "--host 127.0.0.1 --port 5000" in mlflow
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1:5000" in start_head
    assert "0.0.0.0" not in path.read_text()
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert config["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"


@pytest.mark.parametrize("path", RAY_UP, ids=_name)
def test_this_project_is_installed_on_every_machine(path: Path) -> None:
    config = _read(path)
    assert config["file_mounts"]["~/segsweep"] == "."
    assert re.search(r"pip install .*--editable ~/segsweep", config["setup_commands"][-1])


def test_the_autoscaler_of_own_machines_is_the_one_that_starts_workers() -> None:
    config = _read(ROOT / "clusters" / "onpremise.yaml")
    assert config["provider"]["type"] == "local"
    assert any("export RAY_enable_autoscaler_v2=0" in text for text in config["head_start_ray_commands"])


def test_the_cluster_has_a_head_gpu_workers_and_cpu_workers_with_bounds() -> None:
    config = prepare_config(_read(ROOT / "cluster.yaml"))
    types = config["available_node_types"]
    assert set(types) == {"head", "gpu", "cpu"} and config["head_node_type"] == "head"
    for name in ("gpu", "cpu"):
        assert 0 <= types[name]["min_workers"] < types[name]["max_workers"] <= config["max_workers"]
    assert types["head"]["max_workers"] == 0


def test_the_files_for_aws_do_not_drift_apart() -> None:
    first, second = (_read(path) for path in AWS)
    for key in ("docker", "file_mounts", "initialization_commands", "setup_commands"):
        assert first[key] == second[key]
    for key in ("head_start_ray_commands", "worker_start_ray_commands", "rsync_exclude", "rsync_filter"):
        assert first[key] == second[key]


def test_what_stays_behind_when_a_job_is_submitted_stays_out_of_the_image() -> None:
    ignored = set((ROOT / ".dockerignore").read_text().splitlines())
    assert {line if line.startswith("/") else f"**/{line}" for line in DEFAULT_EXCLUDES} <= ignored
    assert not any(line.startswith("!") for line in ignored)


@pytest.mark.parametrize("path", RAY_UP, ids=_name)
def test_secrets_of_the_checkout_stay_here_but_the_clusters_own_are_copied(path: Path) -> None:
    config = _read(path)
    assert {".gitignore", ".dockerignore"} <= set(config["rsync_filter"])  # they count in the checkout alone
    # rsync_exclude counts for the ssh key and the token as well, each copied by a command of its own
    for name in ("auth_token", "ray-autoscaler_eu-central-1.pem", "id_ed25519"):
        assert not any(fnmatch(f"/{name}", pattern) for pattern in config["rsync_exclude"])


@pytest.mark.parametrize("path", [*AWS, *KUBERNETES, ROOT / "clusters" / "Dockerfile"], ids=_name)
def test_the_image_has_the_ray_that_this_project_uses(path: Path) -> None:
    minor = ".".join(ray.__version__.split(".")[:2])
    found = re.findall(r"rayproject/ray:([\d.]+)-py311|rayVersion: \"([\d.]+)\"", path.read_text())
    assert found
    for versions in found:
        assert "".join(versions).startswith(f"{minor}.")


def _pod_templates(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    spec = spec.get("rayClusterSpec", spec)
    yield spec["headGroupSpec"]["template"]
    yield from (group["template"] for group in spec["workerGroupSpecs"])


def _ray_resources(path: Path) -> list[Mapping[str, Any]]:
    return [document for document in _documents(path) if document["apiVersion"] == "ray.io/v1"]


@pytest.mark.parametrize("path", KUBERNETES, ids=_name)
def test_kuberay_accepts_the_manifest(path: Path) -> None:
    (resource,) = _ray_resources(path)
    jsonschema.validate(resource, RAY_JOB if resource["kind"] == "RayJob" else RAY_CLUSTER)


@pytest.mark.parametrize("path", KUBERNETES, ids=_name)
def test_kubernetes_accepts_every_pod_and_volume_claim(path: Path) -> None:
    (resource,) = _ray_resources(path)
    for template in _pod_templates(resource["spec"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
    for document in _documents(path):
        if document["apiVersion"] == "v1":
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_misspelt_settings_of_the_manifests_would_be_found() -> None:
    (resource,) = _ray_resources(KUBERNETES[0])
    wrong = {**resource, "spec": {**resource["spec"], "workerGroups": []}}
    with pytest.raises(jsonschema.ValidationError, match="workerGroups"):
        jsonschema.validate(wrong, RAY_CLUSTER)
    template = next(_pod_templates(resource["spec"]))
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {**template["spec"], "volume": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="volume"):
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("path", KUBERNETES, ids=_name)
def test_rays_autoscaler_reads_the_groups_of_the_manifest(path: Path) -> None:
    (resource,) = _ray_resources(path)
    spec = resource["spec"].get("rayClusterSpec", resource["spec"])
    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "segsweep", "namespace": "default"}, "spec": spec}
    )
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0  # trials run on the workers
    assert types["gpu"]["resources"]["GPU"] == 1
    assert all(item["min_workers"] <= item["max_workers"] for item in types.values())


def test_mlflows_sqlite_lies_on_a_volume_of_the_heads_machine_alone() -> None:
    documents = _documents(KUBERNETES[0])
    modes = {item["metadata"]["name"]: item["spec"].get("accessModes") for item in documents}
    (cluster,) = _ray_resources(KUBERNETES[0])
    head, *workers = (template["spec"] for template in _pod_templates(cluster["spec"]))
    (mlflow,) = [item for item in head["containers"] if item["name"] == "mlflow"]
    (database,) = [word.removeprefix("sqlite:///") for word in mlflow["command"] if "sqlite" in word]
    (volume,) = [m["name"] for m in mlflow["volumeMounts"] if Path(database).is_relative_to(m["mountPath"])]
    claims = {item["name"]: item.get("persistentVolumeClaim") for item in head["volumes"]}
    assert modes[claims[volume]["claimName"]] == ["ReadWriteOnce"]
    assert all(item["name"] != volume for worker in workers for item in worker["volumes"])


@pytest.mark.parametrize("path", KUBERNETES, ids=_name)
def test_on_kubernetes_the_token_is_the_operators_and_results_go_to_the_volume(path: Path) -> None:
    (resource,) = _ray_resources(path)
    spec = resource["spec"].get("rayClusterSpec", resource["spec"])
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"  # nothing of it is reached from outside
    assert "RAY_AUTH_TOKEN" not in re.sub("#.*", "", path.read_text())
    for template in _pod_templates(resource["spec"]):
        containers = template["spec"]["containers"]
        ray_container, *others = containers
        variables = {item["name"]: item["value"] for item in ray_container["env"]}
        assert variables["SEGSWEEP_STORAGE"] == "/data/segsweep"
        mounts = {item["name"] for container in containers for item in container["volumeMounts"]}
        assert mounts == {item["name"] for item in template["spec"]["volumes"]}
        for other in others:
            assert "127.0.0.1" in other["command"]
