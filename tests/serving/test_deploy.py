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


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_deploy_files_say_that_they_were_not_run(path: Path) -> None:
    assert "Not run here" in path.read_text(encoding="utf-8").splitlines()[0]


def replicas() -> list[list[str]]:
    """Arguments of `ixc serve` in both files."""
    compose, (kubernetes, *_) = documents("compose.yaml")[0], documents("kubernetes.yaml")
    pod = kubernetes["spec"]["template"]["spec"]["containers"][0]
    return [compose["services"][name]["command"] for name in ("replica-0", "replica-1")] + [pod["args"]]


def test_deploy_flags_exist() -> None:
    found = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {flag for option in found.params for flag in option.opts}
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
