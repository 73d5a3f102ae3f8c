"""The deployment examples can be parsed and agree with the program: flags, routes, ports, grace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ixc.cli.main import app
from ixc.serving import middleware

yaml = pytest.importorskip("yaml", reason="comes with transformers")

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


FILES = sorted(path for path in DEPLOY.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_deploy_files_say_that_they_were_not_run(path: Path) -> None:
    assert "Not run here" in path.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_deploy_readme_tells_of_every_file(path: Path) -> None:
    assert f"`{path.name}`" in (DEPLOY / "README.md").read_text(encoding="utf-8")


def flags(command: str) -> set[str]:
    """Options of a command of ixc."""
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    return {flag for option in found.params for flag in option.opts}


def test_deploy_light_servers_are_two_behind_the_router() -> None:
    compose = documents("compose.light.yaml")[0]
    servers = {name: each for name, each in compose["services"].items() if name.startswith("server-")}
    conf = (DEPLOY / "router.conf").read_text(encoding="utf-8")
    assert (
        sorted(servers) == sorted(re.findall(r"^    server (server-\d):8000 ", conf, re.M)) == ["server-0", "server-1"]
    )
    assert "$http_x_ixc_image" in conf
    for each in servers.values():
        assert {word for word in each["command"] if word.startswith("--")} <= flags("serve")
        assert each["command"][each["command"].index("--port") + 1] == "8000"
        assert each["stop_grace_period"] == "1m"
        assert int(each["command"][each["command"].index("--drain-seconds") + 1]) < 60
    assert compose["services"]["router"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "./router.conf:/etc/nginx/conf.d/default.conf:ro" in compose["services"]["router"]["volumes"]


def test_deploy_ray_job_is_a_command_of_ours_on_shared_paths() -> None:
    job = documents("ray.yaml")[0]
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["ixc", "read"]
    assert {word for word in words if word.startswith("--")} <= flags("read")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    for pod in pods:
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["data"] == "/data"
        assert {mount for mount in mounts} == {volume["name"] for volume in pod["volumes"]}
    assert {word.split("/")[1] for word in words if word.startswith("/")} == {"data"}
    worker = pods[1]["containers"][0]["resources"]
    assert float(words[words.index("--ray-cpus") + 1]) <= float(worker["requests"]["cpu"])
    assert worker["limits"]["nvidia.com/gpu"] == "1"


def test_deploy_ray_version_is_the_locked_one() -> None:
    locked = re.search(r"^ray==(.*)$", (DEPLOY.parent / "constraints.txt").read_text(), re.M)
    assert locked
    assert documents("ray.yaml")[0]["spec"]["rayClusterSpec"]["rayVersion"] == locked[1]
    assert f"rayproject/ray:{locked[1]}-" in (DEPLOY / "Dockerfile.ray").read_text()


def replicas() -> list[list[str]]:
    """Arguments of `ixc serve` in both files."""
    compose, (kubernetes, *_) = documents("compose.yaml")[0], documents("kubernetes.yaml")
    pod = kubernetes["spec"]["template"]["spec"]["containers"][0]
    return [compose["services"][name]["command"] for name in ("replica-0", "replica-1")] + [pod["args"]]


def test_deploy_flags_exist() -> None:
    known = flags("serve")
    entry = re.search(r"ENTRYPOINT (\[.*\])", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert entry
    for words in [*replicas(), yaml.safe_load(entry[1])]:
        assert {word for word in words if word.startswith("--")} <= known


def test_deploy_replica_may_finish_its_answers() -> None:
    (kubernetes, *_), compose = documents("kubernetes.yaml"), documents("compose.yaml")[0]
    pod = kubernetes["spec"]["template"]["spec"]
    drain = int(pod["containers"][0]["args"][-1])
    forget = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > drain + forget
    assert compose["services"]["replica-0"]["stop_grace_period"] == "2m"
    assert int(compose["services"]["replica-0"]["command"][-1]) < 120
    assert kubernetes["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_deploy_probes_need_no_key_and_exist() -> None:
    container = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in middleware.OPEN_ROUTES


def test_deploy_one_image_goes_to_one_replica() -> None:
    router = documents("compose.yaml")[0]["services"]["router"]["command"]
    assert "--routing-logic=session" in router
    assert "--session-key=x-ixc-image" in router
    assert any("x-ixc-image" in str(found) for found in documents("kubernetes.yaml"))
