"""How a request chooses tokens: its fields become a `Sampling`."""

from __future__ import annotations

from typing import Any

from ixc.inference.sampling import GREEDY, Sampling
from ixc.inference.settings import MAX_BEAMS
from ixc.serving.content import wrong
from ixc.serving.errors import ApiError, quote
from ixc.serving.schema import ChatBody

MAX_CHOICES = 8
"""Most answers of a request, `n`; they are made one after another from one prefill."""


def read_sampling(body: ChatBody) -> Sampling:
    """Return greedy sampling, as `ixc ask`, unless a temperature above 0 or a top_p below 1 is given.

    A seed, a top_k or a min_p alone changes nothing, so that clients which always send one stay greedy.

    Raises:
        ApiError: options that exclude each other, or a key of logit_bias that is no id.
    """
    sampled = body.temperature > 0 if body.temperature is not None else (body.top_p or 1.0) < 1
    beams, found = _beams(body), _penalties(body)
    if body.use_beam_search:
        return Sampling(num_beams=beams, **found)
    if not sampled:
        return Sampling(**found) if found else GREEDY
    if body.top_k is not None:
        found["top_k"] = max(body.top_k, 0)  # -1 is vLLM's word for all
    return Sampling(
        do_sample=True,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        seed=body.seed,
        **found,
    )


def _penalties(body: ChatBody) -> dict[str, Any]:
    """Return what changes scores in greedy answers too, only what is set."""
    names = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    found: dict[str, Any] = {name: value for name in names if (value := getattr(body, name)) is not None}
    if body.logit_bias:
        found["logit_bias"] = tuple(sorted((_token(key), bias) for key, bias in body.logit_bias.items()))
    return found


def _token(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 9):
        raise ApiError(f"logit_bias.{quote(key)} is no token; its keys are ids of tokens", param="logit_bias")
    return int(key)


def _beams(body: ChatBody) -> int:
    """Return the width of the beam search, 1 without one. Raises: ApiError: options that beam search does not have."""
    width = body.n or 1
    if not body.use_beam_search:
        if width > MAX_CHOICES:
            raise wrong("n", width, f"at most {MAX_CHOICES} answers are supported")
        return 1
    if width > MAX_BEAMS:
        raise wrong("n", width, f"at most {MAX_BEAMS} beams are supported")
    if body.temperature not in (None, 0, 1) or body.top_p not in (None, 1):
        raise ApiError("beam search does not sample; leave temperature and top_p out", param="use_beam_search")
    unable = [name for name in ("stream", "logprobs") if getattr(body, name)]
    if width > 1 and unable:
        raise ApiError(f"{width} beams have no {' and no '.join(unable)}; leave it out, or use n: 1", param=unable[0])
    return width
