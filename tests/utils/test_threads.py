"""Threads: the CPU quota of a container, and what the user chose stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ixc.utils import threads
from ixc.utils.threads import available_cores, configure_threads


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores", lambda: 16)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system with /proc/self/cgroup and files of control groups."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "damaged\n"}, 16),
        # the smallest of a group and those above it
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        # version 1, mounted under either name; the path in a container may be the host's
        ("4:cpuacct,cpu:/a\n", {"cpuacct,cpu/a/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "9"}, 16),
        ("4:cpuacct,cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "50000"}, 5),
        ("4:cpu,cpuacct:/host/path\n", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("4:cpuset:/\n3:memory:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ],
)  # fmt: skip
def test_available_cores_respects_the_quota(groups: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert available_cores(system(tmp_path, groups, files)) == cores


def test_available_cores_of_this_machine() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    assert available_cores(Path("/nowhere")) <= (os.cpu_count() or 1)


@pytest.mark.usefixtures("many_cores")
def test_configure_threads_leaves_what_the_user_chose(tmp_path: Path) -> None:
    limited = system(tmp_path, "0::/\n", {"cpu.max": "200000 100000"})
    chosen: dict[str, str] = {}
    configure_threads(chosen, root=limited)
    assert chosen == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}
    for name in threads.WAITS:
        chosen = {name: "7", "MKL_NUM_THREADS": "5"}
        configure_threads(chosen, root=limited)
        assert chosen == {name: "7", "MKL_NUM_THREADS": "5"}
    chosen = {}
    configure_threads(chosen, root=tmp_path / "no such folder")
    assert chosen == {"OMP_WAIT_POLICY": "passive"}


def test_configure_threads_is_too_late_when_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())  # type: ignore[arg-type]
    chosen: dict[str, str] = {}
    configure_threads(chosen)
    assert chosen == {}


@pytest.mark.parametrize("module", ["ixc.inference.engine", "ixc.inference.standalone"])
def test_configure_threads_runs_before_torch_is_loaded(module: str) -> None:
    code = f"""
import os, sys
import ixc.utils.threads as threads
real = threads.configure_threads
import ixc.inference
assert "torch" not in sys.modules
assert os.environ["OMP_WAIT_POLICY"] == "passive"
import {module}
"""
    clean = {name: value for name, value in os.environ.items() if name not in threads.WAITS}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)
