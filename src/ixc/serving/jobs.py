"""A request that has been checked and encoded: what waits in the queue. Spec (i).

messages with pictures, JobOptions --prepare_job--> GenerationJob
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ixc.core import chat_format
from ixc.inference.engine import Engine
from ixc.inference.sampling import Sampling
from ixc.serving.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a request sets for its answer."""

    sampling: Sampling
    """How tokens are chosen."""
    hd: int
    """Most tiles of an image."""
    partition: str
    """Partition rule."""
    max_new_tokens: int | None = None
    """Longest answer; None = the folder's setting, cut to what the context leaves."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not part of it."""
    top_logprobs: int | None = None
    """None = no log probabilities; else the number of alternatives to each token."""
    prompt_format: PromptFormat = CHAT_FORMAT
    """How the messages become a prompt."""


@dataclass(frozen=True, kw_only=True)
class GenerationJob:
    """A checked and encoded request; its tokens bound the memory of what waits."""

    inputs: dict[str, torch.Tensor]
    """What `generate` takes, on the CPU."""
    prompt_tokens: int
    """Tokens of the prompt, images included."""
    image_tokens: tuple[int, ...]
    """Tokens of every image."""
    max_new_tokens: int
    """Longest answer."""
    sampling: Sampling
    """How tokens are chosen."""
    hd: int
    """Most tiles of an image."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    top_logprobs: int | None = None
    """None = no log probabilities; else the number of alternatives to each token."""

    @property
    def tokens(self) -> int:
        """Most tokens the job may occupy: prompt and longest answer, for every beam."""
        return self.sampling.num_beams * (self.prompt_tokens + self.max_new_tokens)


def prepare_job(engine: Engine, messages: Sequence[chat_format.Message], options: JobOptions) -> GenerationJob:
    """Check and encode a conversation; everything that can be wrong with it is found here, before the model runs.

    Args:
        engine: the engine that will answer.
        messages: turns whose images hold RGB pictures.
        options: of the request.

    Raises:
        GeometryError: no partition. ContextError: more tokens than positions. ImageError: a picture's mode.
    """
    request = engine.preparer.prepare_segments(
        prompt_segments(messages, options.prompt_format, system=engine.processor.system, rules=engine.processor.rules),
        hd=options.hd,
        partition=options.partition,
        max_new_tokens=options.max_new_tokens,
        bos_once=options.prompt_format.published,
    )
    return GenerationJob(
        inputs=request.inputs,
        prompt_tokens=request.prompt_tokens,
        image_tokens=request.image_tokens,
        max_new_tokens=request.max_new_tokens,
        sampling=options.sampling,
        hd=options.hd,
        stop=options.stop,
        top_logprobs=options.top_logprobs,
    )
