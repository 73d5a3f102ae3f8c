"""What answers the questions of `ixc eval`: an engine in this process, or one in every worker of Ray (`--ray`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.cli.ray_options import Placement
from ixc.cluster.workers import Work
from ixc.errors import IxcError
from ixc.evals.runner import StreamedAnswers

if TYPE_CHECKING:
    from ixc.evals.question import Question
    from ixc.evals.runner import Answers
    from ixc.inference.engine import Engine

QUESTIONS_A_UNIT = 8
"""Questions that a worker answers together."""


@dataclass(frozen=True, kw_only=True)
class AnswerQuestions:
    """Makes what answers questions: loads the model."""

    folder: str
    """Folder of the model, absolute."""
    device: str
    """As of `inference.engine.load`."""
    dtype: str
    """As of `inference.engine.load`."""
    partition: str
    """How images are tiled."""
    threads: int = 1
    """Threads of a worker, >= 1."""

    def __call__(self) -> Work:
        """Return questions -> outputs, an error in place of one that could not be given."""
        from ixc.apps.reading.ray_runner import use_threads
        from ixc.cli.options import load_engine

        use_threads(self.threads)
        return answering(load_engine(Path(self.folder), device=self.device, dtype=self.dtype), self.partition)


def answering(engine: Engine, partition: str) -> Answers:
    """Return an engine as what answers the questions of benchmarks."""
    from ixc.inference import batch

    return lambda questions: batch.answer_each(
        engine,
        [batch.BatchRequest(name=f"question {q.index}", **_fields(q)) for q in questions],
        partition=partition,
    )


def _fields(question: Any) -> dict[str, Any]:
    names = ("images", "messages", "prompt_format", "hd", "num_beams", "max_new_tokens")
    return {name: getattr(question, name) for name in names}


def on_ray(
    folder: Path, placed: Placement, *, dtype: str, partition: str | None
) -> tuple[str, StreamedAnswers, dict[str, Any]]:
    """Return (name, answers, settings) of a model folder on Ray; the settings are those of a run in one process.

    Args:
        folder: of the model.
        placed: where it is loaded.
        dtype: of --dtype.
        partition: of --partition; None = the model's.
    """
    from ixc.inference.cost import read_tiling
    from ixc.inference.model_folder import fingerprint

    number = placed.dtype(dtype)
    rule = partition or read_tiling(folder).get("rule", "original")
    settings = {"dtype": number, "partition": rule, "weights": fingerprint(folder)}
    make = AnswerQuestions(
        folder=str(folder.resolve()),
        device=placed.device,
        dtype=number,
        partition=rule,
        threads=max(1, int(placed.resources.cpus)),
    )
    return folder.resolve().name, StreamedAnswers(stream=_Stream(make, placed, settings["weights"])), settings


class _Stream:
    """Connects to Ray for the questions of one benchmark."""

    def __init__(self, make: AnswerQuestions, placed: Placement, weights: str) -> None:
        self.make, self.placed, self.weights = make, placed, weights

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[list[Question], list[str | IxcError]]]:
        from ixc.apps.reading.ray_runner import ModelCheck
        from ixc.cluster.session import connect
        from ixc.cluster.stages import Stages, in_order, run

        if not questions:
            return
        size = QUESTIONS_A_UNIT
        units = (list(questions[start : start + size]) for start in range(0, len(questions), size))
        with connect(self.placed.address, check=ModelCheck(folder=self.make.folder, fingerprint=self.weights)):
            for done in in_order(run(units, Stages(finish=self.make), self.placed.resources)):
                yield done.parts, done.outcomes
