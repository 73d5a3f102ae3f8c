"""`--ray` of the commands: refused before anything is loaded, or placed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import Run

from ixc.cli.ray_options import placement, sound
from ixc.cluster.stages import Done, Resources
from ixc.errors import CapacityError, UsageError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


def test_placement_without_ray_is_this_process() -> None:
    assert placement(None) is None


@pytest.mark.parametrize("options", [{"cpus": 2.0}, {"gpus": 1.0}])
def test_placement_refuses_options_without_effect(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="no effect without --ray"):
        placement(None, **options)


@needs_ray
def test_placement_gives_cuda_one_gpu_and_every_node_the_same_type() -> None:
    cuda = placement("local", device="cuda")
    assert cuda is not None
    assert cuda.resources == Resources(cpus=1.0, gpus=1.0)
    assert (cuda.device, cuda.dtype("auto"), cuda.dtype("float16")) == ("cuda", "bfloat16", "float16")
    cpu = placement("10.0.0.1:6379", cpus=4.0)
    assert cpu is not None
    assert cpu.resources == Resources(cpus=4.0)
    assert (cpu.device, cpu.dtype("auto")) == ("cpu", "float32")


@needs_ray
@pytest.mark.parametrize(
    ("device", "gpus", "line"),
    [
        ("mps", None, "not a device"),
        ("cpu", 1.0, "no effect with --device cpu"),
        ("cuda", 0.0, "leaves a worker no GPU"),
    ],
)
def test_placement_refuses_what_excludes_each_other(device: str, gpus: float | None, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        placement("local", gpus=gpus, device=device)


def test_sound_raises_the_error_of_a_part() -> None:
    done = Done(number=0, parts=[1, 2], outcomes=["a", CapacityError("2 workers died over it")])
    found = sound(done)
    assert next(found) == "a"
    with pytest.raises(CapacityError, match="died"):
        next(found)


@needs_ray
@pytest.mark.parametrize("address", ["nowhere", "ray://host:10001"])
def test_synth_refuses_an_address_that_is_none(run: Run, tmp_path: Path, address: str) -> None:
    code, out, err = run("synth", tmp_path / "out", "--ray", address)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--ray" in err
    assert not (tmp_path / "out").exists()
