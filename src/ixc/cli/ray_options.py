"""The options --ray, --ray-cpus and --ray-gpus of `read`, `eval` and `synth`, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ixc.cluster.session import check_address
from ixc.cluster.stages import Done, Resources
from ixc.errors import IxcError, UsageError

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on Ray (extra ray): local for this machine's cores, HOST:PORT or auto for a cluster.",
    ),
]
RayCpus = Annotated[
    float | None,
    typer.Option("--ray-cpus", min=1, help="With --ray: cores of a worker, each with a model; default: 1."),
]
RayGpus = Annotated[
    float | None,
    typer.Option("--ray-gpus", min=0, help="With --ray: GPUs of a worker; default: 1 with --device cuda, else 0."),
]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the work is done, and with what."""

    address: str
    """As of `cluster.session.connect`."""
    resources: Resources
    """Of one worker."""

    @property
    def device(self) -> str:
        """Device of every worker: "auto" could differ between nodes, and so would answers."""
        return "cuda" if self.resources.gpus else "cpu"

    def dtype(self, name: str) -> str:
        """Return the number type that a name stands for on the workers."""
        return name if name != "auto" else "bfloat16" if self.resources.gpus else "float32"


def placement(
    address: str | None, *, cpus: float | None = None, gpus: float | None = None, device: str = "auto"
) -> Placement | None:
    """Return where the work is done; None = in this process.

    Args:
        address: of --ray.
        cpus, gpus: of a worker, as given.
        device: of --device.

    Raises:
        UsageError: no address, a form of it that is not known, or options that exclude each other.
        MissingPackageError: Ray is not installed.
    """
    if address is None:
        given = [name for name, value in (("--ray-cpus", cpus), ("--ray-gpus", gpus)) if value is not None]
        if given:
            raise UsageError(f"{' and '.join(given)} has no effect without --ray; add --ray local, or leave it out")
        return None
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device} is not a device of Ray's workers; use cpu or cuda")
    if device == "cpu" and gpus:
        raise UsageError(f"--ray-gpus {gpus:g} has no effect with --device cpu; leave one of them out")
    check_address(address)
    most = (1.0 if device == "cuda" else 0.0) if gpus is None else gpus
    if device == "cuda" and not most:
        raise UsageError("--ray-gpus 0 leaves a worker no GPU for --device cuda; leave one of them out")
    return Placement(address=address, resources=Resources(cpus=1.0 if cpus is None else cpus, gpus=most))


def sound(done: Done) -> Iterator[Any]:
    """Yield the results of a unit. Raises: IxcError: that of the first part without one."""
    for outcome in done.outcomes:
        if isinstance(outcome, IxcError):
            raise outcome
        yield outcome
