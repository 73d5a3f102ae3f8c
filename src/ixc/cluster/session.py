"""Connect to Ray, or start it on this machine for one run, and check that its nodes can do the work.

    --ray local       a Ray of this machine's cores, which ends with the run
    --ray HOST:PORT   a cluster that this machine is a node of (`ray start --address=HOST:PORT`)
    --ray auto        the cluster that runs on this machine, or RAY_ADDRESS

Ray Client (`ray://`) is not spoken: it needs a package more, and every result would pass through its proxy.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import ixc
from ixc.errors import CapacityError, IxcError, MissingPackageError, UnreachableError, UsageError
from ixc.utils.counted import counted

LOCAL = "local"
AUTO = "auto"

CONNECT_SECONDS = 5.0
"""Longest wait for a cluster's port."""

CHECK_SECONDS = 180.0
"""Longest wait for the check of the nodes."""

OBJECT_STORE = 1 << 30
"""Bytes of shared memory that a Ray of this machine keeps results and opened pages in; more goes to the disk."""

QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
"""Variables that Ray reads when it is imported, and what they are set to unless the user chose."""

Check = Callable[[], str | None]
"""Runs on every node; returns why the node cannot do the work, None where it can. It pickles."""


def check_address(address: str) -> None:
    """Check the form of an address, and that Ray is installed, before anything is loaded.

    Raises:
        UsageError: neither "local", "auto" nor HOST:PORT. MissingPackageError: Ray, or what Ray Data needs.
    """
    if address.startswith("ray://"):
        raise UsageError(
            f"--ray {address}: Ray Client is not spoken; run the command on a node of the cluster with --ray HOST:6379"
        )
    host, colon, port = address.rpartition(":")
    if address not in (LOCAL, AUTO) and not (host and colon and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(f"--ray {address!r} is no address; use local, auto or HOST:PORT, e.g. 10.0.0.1:6379")
    missing = [name for name in ("ray", "pyarrow", "pandas") if find_spec(name) is None]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        raise MissingPackageError(
            f"{' and '.join(missing)} {are} missing, which --ray needs; pip install 'ixc-4khd[ray]'"
        )


@contextmanager
def connect(
    address: str, *, check: Check | None = None, cpus: int | None = None, object_store: int = OBJECT_STORE
) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; a cluster that this process is connected to is used.

    Args:
        address: "local", "auto" or HOST:PORT.
        check: run on every node.
        cpus: cores of a local Ray; None = those of this process.
        object_store: bytes of shared memory of a local Ray.

    Raises:
        UsageError, MissingPackageError: as of `check_address`. UnreachableError: no cluster answers, or this machine is
            no node of it. CapacityError: a node cannot do the work; its reason.
    """
    check_address(address)
    _quieten()
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(address, cpus, object_store)
    try:
        _check_nodes(check)
        yield
    finally:
        if ours:
            ray.shutdown()


def _start(address: str, cpus: int | None, object_store: int) -> None:
    import ray

    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        from ixc.utils.threads import available_cores

        local = {"num_cpus": cpus or available_cores(), "object_store_memory": object_store}
        with _silent_stderr():
            ray.init(address="local", include_dashboard=False, **local, **common)
        return
    if address != AUTO:
        _check_port(address)
    try:
        with _silent_stderr():
            ray.init(address=address, **common)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, by what differs
        raise _refused(address, error) from error


def _check_port(address: str) -> None:
    """Ask for the port first: Ray itself tries for a minute and writes pages about it."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"no Ray answers at {address} ({error.strerror or error}); start one with `ray start --head`, or use "
            "--ray local"
        ) from error


def _refused(address: str, error: Exception) -> IxcError:
    line = " ".join(str(error).split())
    if "ersion mismatch" in line:
        return UnreachableError(f"the cluster at {address} runs another Ray or Python: {line[:300]}")
    if address == AUTO and isinstance(error, ConnectionError):
        return UnreachableError("no Ray runs on this machine; start one with `ray start --head`, or use --ray local")
    return UnreachableError(
        f"this machine cannot join the cluster at {address}; make it a node with `ray start --address={address}`: "
        f"{line[:300]}"
    )


def _check_nodes(check: Check | None) -> None:
    """Ask every node with cores for its version of this package, and whether it can do the work."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pickled = pickle.dumps(check)
    nodes = [each for each in ray.nodes() if each["Alive"] and each["Resources"].get("CPU")]
    if not nodes:
        raise CapacityError("no node of the cluster has a core; add one with `ray start --address=...`")
    asked = {
        ray.remote(num_cpus=0, max_retries=1)(_node_report())
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(each["NodeID"], soft=False))
        .remote(ixc.__version__, pickled): each["NodeManagerAddress"]
        for each in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_SECONDS)
    if late:
        raise CapacityError(
            f"node {asked[late[0]]} did not answer within {CHECK_SECONDS:.0f} s; look at `ray status`, or remove it"
        )
    wrong = [(asked[one], reason) for one in ready if (reason := _report(one)) is not None]
    if wrong:
        node, reason = wrong[0]
        raise CapacityError(f"{len(wrong)} of {counted(len(nodes), 'node')} cannot do the work; {node}: {reason}")


def _report(reference: Any) -> str | None:
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(reference)
    except RayError as error:
        return " ".join(str(error).split())[:300]


def _node_report() -> Callable[[str, bytes], str | None]:
    """Return the function that a node runs; a nested one, which is sent by value: the package may be missing there."""

    def report(version: str, pickled: bytes) -> str | None:
        try:
            import ixc
        except ImportError:
            return f"ixc-4khd is not installed there; pip install 'ixc-4khd[ray]=={version}'"
        if ixc.__version__ != version:
            return f"it has ixc-4khd {ixc.__version__}, this is {version}; install the same version on every node"
        import pickle

        check = pickle.loads(pickled)
        return None if check is None else check()

    return report


def _quieten() -> None:
    """Keep Ray's own lines off stdout and stderr, and its reports at home; what the user has set stays."""
    _ = [os.environ.setdefault(name, QUIET[name]) for name in QUIET]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray Data 2.60 warns of fields that its own default context sets
        import ray.data
        from ray._private import worker

        ray.data.DataContext.get_current().print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray 2.60 writes what raylets report to the driver's stdout, also with log_to_driver=False: into our JSON.
    worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C++ code of this process writes to stderr: a line about the level of the log."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
