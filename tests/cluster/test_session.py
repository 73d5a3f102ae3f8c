"""Addresses, and what stands in the way of a cluster: one clear line each, before anything is loaded."""

from __future__ import annotations

import socket
from importlib.util import find_spec

import pytest

import ixc
from ixc.cluster import session
from ixc.errors import MissingPackageError, UnreachableError, UsageError


@pytest.mark.parametrize("address", ["", "host", "host:", ":6379", "host:0", "host:70000", "ray://host:10001"])
def test_check_address_refuses_what_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="--ray"):
        session.check_address(address)


def test_check_address_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'ixc-4khd\[ray\]'"):
        session.check_address("local")


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
def test_connect_to_a_closed_port_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"no Ray answers at 127.0.0.1:{port} .*--ray local") as error:
        session.connect(f"127.0.0.1:{port}").__enter__()
    assert "\n" not in str(error.value)


def test_refused_tells_versions_in_one_line() -> None:
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.7")
    line = str(session._refused("10.0.0.1:6379", error))
    assert "another Ray or Python" in line
    assert "Ray: 2.59.0 Python: 3.11.7" in line


def test_node_report_tells_another_version_and_what_the_check_says() -> None:
    from pickle import dumps

    report = session._node_report()
    assert "0.0.1; install the same version" in str(report("0.0.1", dumps(None)))
    assert report(ixc.__version__, dumps(None)) is None
    assert report(ixc.__version__, dumps(_no_model)) == "no folder /model there"


def _no_model() -> str:
    return "no folder /model there"
