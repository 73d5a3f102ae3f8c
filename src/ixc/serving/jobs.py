"""A request that has been checked and encoded: what waits in the queue. Spec (i).

messages with pictures, JobOptions --prepare_job--> GenerationJob
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ixc.core import chat_format
from ixc.core.prompt_format import CHAT_FORMAT, PromptFormat, prompt_segments
from ixc.inference.engine import Engine
from ixc.inference.sampling import Sampling
from ixc.serving.json_plan import FieldInputs, JsonPlan


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
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the answer, besides the model's own."""
    choices: int = 1
    """Answers to the prompt, made one after another."""
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
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the answer, besides the model's own."""
    choices: int = 1
    """Answers to the prompt, made one after another from one prefill."""
    top_logprobs: int | None = None
    """None = no log probabilities; else the number of alternatives to each token."""
    json: JsonPlan | None = None
    """How the answer becomes JSON; None = a text."""

    @property
    def tokens(self) -> int:
        """Most tokens of the job: prompt and longest answer, for every beam; further choices share the prompt."""
        return self.sampling.num_beams * (self.prompt_tokens + self.choices * self.max_new_tokens)


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
        stop_token_ids=options.stop_token_ids,
        choices=options.choices,
        top_logprobs=options.top_logprobs,
    )


def question_inputs(
    engine: Engine, messages: Sequence[chat_format.Message], prompt_format: PromptFormat, inputs: Mapping[str, Any]
) -> FieldInputs:
    """Return what encodes another question in place of the text of the last user's turn.

    Args:
        engine: the engine that will answer.
        messages: of the request.
        prompt_format: of the request.
        inputs: the request encoded, whose tiles are used again.
    """
    last = max((place for place, turn in enumerate(messages) if turn.role == "user"), default=0)

    def encode(question: str) -> Mapping[str, torch.Tensor]:
        images = tuple(part for part in messages[last].content if isinstance(part, chat_format.Image))
        turns = [*messages[:last], replace(messages[last], content=(*images, question)), *messages[last + 1 :]]
        segments = prompt_segments(turns, prompt_format, system=engine.processor.system, rules=engine.processor.rules)
        return engine.processor.encode_beside(segments, inputs, bos_once=prompt_format.published)

    return encode
