"""Options of the commands that ask a model: resolution, decoding, system and stop texts.

GenerationOptions --sampling--> Sampling --query--> Query     everything checked before a model is loaded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.options import Hd, NewTokens, Partition
from ixc.errors import UsageError
from ixc.inference.settings import MAX_BEAMS, MAX_SEED, check_tiling

if TYPE_CHECKING:
    from ixc.inference.query import Query
    from ixc.inference.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How an answer is made; the help of each field says what it does."""

    hd: Hd = None
    partition: Partition = None
    max_new_tokens: NewTokens = None
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0, help="0 (default): the likeliest tokens; above 0 samples, 1: unchanged."),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", min=0, max=1, help="Sample from the likeliest tokens that together have this share; default: 1."
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=0, help="Sample from so many of the likeliest tokens; default: 50, 0: all."),
    ] = None
    beams: Annotated[
        int,
        typer.Option("--beams", min=1, max=MAX_BEAMS, help="Beams of beam search; above 1 nothing is streamed."),
    ] = 1
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the sampling: the same seed, the same answer."),
    ] = None
    system: Annotated[
        str | None,
        typer.Option("--system", help='System text; default: the model\'s, "": none. The embedded model takes none.'),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="Text that ends the answer and is no part of it; may be repeated."),
    ] = None

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen: greedy unless a temperature above 0, a top-p or a top-k is given.

        Raises:
            UsageError: a value out of range, or one that has no effect on greedy answers.
        """
        from ixc.inference.sampling import Sampling

        drawn = {"--top-p": self.top_p, "--top-k": self.top_k, "--seed": self.seed}
        given = [name for name, value in drawn.items() if value is not None]
        if self.temperature == 0 and given:
            raise UsageError(
                f"--temperature 0 takes the likeliest tokens, so {', '.join(given)} has no effect; leave it out, or "
                "raise the temperature"
            )
        if not self.temperature and given in ([], ["--seed"]):
            if given:
                raise UsageError("--seed has no effect on the likeliest tokens; add --temperature 1, or leave it out")
            return Sampling(num_beams=self.beams)
        return Sampling(
            do_sample=True,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            num_beams=self.beams,
            seed=self.seed,
        )

    @property
    def generation(self) -> dict[str, Any]:
        """Keyword arguments of `Engine.ask` and `Engine.stream`."""
        return {
            "hd": self.hd,
            "partition": self.partition,
            "max_new_tokens": self.max_new_tokens,
            "sampling": self.sampling,
            "system": self.system,
            "stop": tuple(self.stop or ()),
        }

    @property
    def is_default_decoding(self) -> bool:
        """Whether the likeliest tokens are taken, one beam: what the engine without transformers does."""
        return self.sampling.num_beams == 1 and not self.sampling.do_sample

    def query(self, images: Sequence[Any], question: str) -> Query:
        """Return the checked query. Raises: UsageError."""
        from ixc.inference.query import Query

        return Query(images, question, **self.generation)

    def check(self) -> None:
        """Check everything that can be checked without a model. Raises: UsageError."""
        check_tiling(self.hd, self.partition, auto=True)
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens is {self.max_new_tokens}, at least 1 needed")
        self.query((), "")

    def check_model(self, folder: Path) -> None:
        """Check the options against a model's settings. Raises: UsageError: a system text that it does not take."""
        from ixc.inference.model_folder import takes_system_text
        from ixc.inference.request import NO_SYSTEM_TURNS

        if self.system and not takes_system_text(folder):
            raise UsageError(f"--system: {NO_SYSTEM_TURNS}")
