"""Pack many questions after one visual prefix: none attends to another, and positions restart after the image.

    [ <s> turn user \\n | image ... image | q1 a1 pad | q2 a2 pad | ... ]

The result equals asking each question alone (tested), at an eighth of the cost or less.

Shapes: B pages, P = prefix + N image tokens, Q questions of T tokens, S = P + Q * T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ixc.core.chat_format import IGNORED
from ixc.nano import bf16_cpu
from ixc.processing.tokenization import PAGE_VOCABULARY, character_tokenizer
from ixc.synth.page import PageQuestion

if TYPE_CHECKING:
    from ixc.nano.attention_recorder import AttentionRecorder

Form = Literal["turn", "key", "direct"]
"""How a question precedes its answer; see `pack`."""
KERNEL = "ixc_packed_questions"
"""Name of `attend_packed` among the attention kernels of transformers."""


@lru_cache(maxsize=1)
def tokenizer():
    """Build the embedded model's tokenizer once."""
    return character_tokenizer()


@lru_cache(maxsize=1)
def page_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of models of real pages once."""
    return character_tokenizer(PAGE_VOCABULARY)


@lru_cache(maxsize=1)
def markup() -> tuple[list[int], list[int], int]:
    """Return the ids before the image, those between question and answer, and the id that ends an answer."""

    def ids(token: str) -> int:
        found = tokenizer().convert_tokens_to_ids(token)
        assert isinstance(found, int)
        return found

    start, end, newline = ids("[UNUSED_TOKEN_146]"), ids("[UNUSED_TOKEN_145]"), ids("\n")
    return [ids("<s>"), start, ids("user"), newline], [end, newline, start, ids("assistant"), newline], end


@lru_cache(maxsize=1 << 16)
def encode(text: str) -> tuple[int, ...]:
    """Tokenize text without special tokens."""
    return tuple(tokenizer().encode(text, add_special_tokens=False))


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Packed questions of B pages."""

    ids: Tensor
    """(B, Q * T) token ids."""
    labels: Tensor
    """(B, Q * T) ids to predict, `IGNORED` elsewhere."""
    positions: Tensor
    """(S,) position ids."""
    mask: Tensor
    """(1, 1, S, S) bool, True where a token attends."""
    questions: int
    """Q, questions of a page."""
    firsts: Tensor
    """(B, Q) index among a question's T tokens of the one that predicts the first token of its answer."""


def choose(
    rng: Generator, questions: list[PageQuestion], count: int, *, known: Mapping[str, float] | None = None
) -> list[PageQuestion]:
    """Sample `count` questions, every kind with the same probability, so that cells do not outnumber titles.

    Args:
        rng: random generator.
        questions: questions of a page.
        count: how many to sample.
        known: share of right answers by kind; kinds are then sampled by `worth`, and no question twice before all
            have been sampled.
    """
    kinds = sorted({q.kind for q in questions})
    by_kind = {k: [q for q in questions if q.kind == k] for k in kinds}
    if known is not None:
        return _without_repetition(rng, by_kind, np.array([worth(known.get(k, 0.0)) for k in kinds]), count)
    picked = []
    for _ in range(count):
        mine = by_kind[kinds[int(rng.integers(len(kinds)))]]
        picked.append(mine[int(rng.integers(len(mine)))])
    return picked


def _without_repetition(
    rng: Generator, by_kind: Mapping[str, list[PageQuestion]], chances: np.ndarray, count: int
) -> list[PageQuestion]:
    """Sample `count` questions by the probabilities of their kinds, all of them before any repeats."""
    picked, left = [], [[] for _ in by_kind]
    while len(picked) < count:
        if not any(left):
            left = [[mine[i] for i in rng.permutation(len(mine))] for mine in by_kind.values()]
        open_to = chances * [bool(mine) for mine in left]
        picked.append(left[int(rng.choice(len(left), p=open_to / open_to.sum()))].pop())
    return picked


def worth(share: float) -> float:
    """Sampling weight of a kind by its share of right answers: largest near one half.

    Kinds that are always right keep a small weight, and those never right a larger one.
    """
    return 0.12 + 0.2 * (1 - share) + 2 * share * (1 - share)


def bare(question: str) -> str:
    """Reduce `What is the K?` to `K`, the form of question of the first curriculum stages."""
    return question.removeprefix("What is the ").removesuffix("?")


def pack(
    pages: list[list[PageQuestion]],
    *,
    prefix: int,
    form: Form = "turn",
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Packed:
    """Pack questions of B pages, the same number of each, after `prefix` tokens.

    Args:
        pages: questions of each page.
        prefix: number of tokens before the questions.
        form: `turn`: as a user asks. `key`: key, newline, answer. `direct`: the question as it is, directly
            followed by the answer.
        tokenizer: default: the embedded model's; all have the same markup.
    """
    tokenize = encode if tokenizer is None else partial(tokenizer.encode, add_special_tokens=False)
    _, between, end = markup()
    asked = bare if form == "key" else str
    behind = {"turn": between, "key": between[-1:], "direct": []}[form]
    rows = [[(list(tokenize(asked(q.question))) + behind, [*tokenize(q.answer), end]) for q in page] for page in pages]
    length = max(len(q) + len(a) for row in rows for q, a in row)
    count = len(rows[0])
    ids = torch.full((len(rows), count, length), 2)
    labels = torch.full((len(rows), count, length), IGNORED)
    for b, row in enumerate(rows):
        for i, (q, a) in enumerate(row):
            ids[b, i, : len(q) + len(a)] = torch.tensor(q + a)
            labels[b, i, len(q) - 1 : len(q) + len(a) - 1] = torch.tensor(a)  # already shifted
    positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(length)).repeat(count)])
    mask = torch.ones(len(positions), len(positions), dtype=torch.bool).tril()
    question = torch.arange(count).repeat_interleave(length)
    mask[prefix:, prefix:] &= question[:, None] == question
    return Packed(
        ids=ids.flatten(1),
        labels=labels.flatten(1),
        positions=positions,
        mask=mask[None, None],
        questions=count,
        firsts=torch.tensor([[len(q) - 1 for q, _ in row] for row in rows]),
    )


class PackedSpan(NamedTuple):
    """Where packed questions stand in a sequence."""

    prefix: int
    """P, tokens before the questions."""
    questions: int
    """Q, each of the same number of tokens."""
    recorder: AttentionRecorder | None = None
    """Records the attention of supervised heads."""


def attend_packed(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    packing: PackedSpan,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention of packed questions that skips what their mask hides: causal prefix; a question sees it and itself.

    Args:
        module: the attention module.
        query, key, value: (B, H, S, D).
        attention_mask: not read; `packing` defines the same mask.
        scaling: factor of the scores.
        packing: where the questions stand.
        kwargs: other arguments of the interface of transformers, not used.

    Returns:
        (B, S, H, D), equal to masked attention up to rounding (bf16 rounding inside `bf16_products`), and no weights.
    """
    prefix, questions, recorder = packing
    seen, shown = key[:, :, :prefix], value[:, :, :prefix]
    if bf16_cpu.takes(query):
        out = bf16_cpu.attend(query, key, value, prefix=prefix, questions=questions, scaling=scaling)
        if recorder is not None and questions:
            asked = query[:, :, prefix:] * scaling
            own = key[:, :, prefix:]
            recorder.record(
                module,
                lambda head: _weights(asked[:, head], seen[:, head], own[:, head], questions)[0],
                query[:, :, :prefix] * scaling,
                seen,
                shown,
            )
        return out.transpose(1, 2), None
    head = F.scaled_dot_product_attention(query[:, :, :prefix], seen, shown, is_causal=True, scale=scaling)
    if not questions:
        return head.transpose(1, 2), None
    asked = query[:, :, prefix:] * scaling
    far, near = _weights(asked, seen, key[:, :, prefix:], questions)
    if recorder is not None:
        recorder.record(module, lambda head: far[:, head], query[:, :, :prefix] * scaling, seen, shown)
    own = value[:, :, prefix:].unflatten(2, (questions, -1))
    tail = far @ shown + (near.unflatten(2, (questions, -1)) @ own).flatten(2, 3)
    return torch.cat([head, tail], 2).transpose(1, 2), None


def _weights(asked: Tensor, seen: Tensor, own: Tensor, questions: int) -> tuple[Tensor, Tensor]:
    """Attention of questions on the prefix (..., Q * T, P) and on their own tokens (..., Q * T, T), in one softmax.

    Args:
        asked: scaled queries (..., Q * T, D).
        seen, own: keys of the prefix (..., P, D) and of the questions (..., Q * T, D).
    """
    own_q, own_k = (x.unflatten(-2, (questions, -1)) for x in (asked, own))
    length = own_q.shape[-2]
    later = torch.ones(length, length, dtype=torch.bool, device=asked.device).triu(1)
    near = (own_q @ own_k.transpose(-1, -2)).masked_fill(later, -torch.inf).flatten(-3, -2)  # (..., Q * T, T)
    weights = torch.cat([asked @ seen.transpose(-1, -2), near], -1).softmax(-1)  # (..., Q * T, P + T)
    far, near = weights.split([seen.shape[-2], length], -1)
    return far, near


ALL_ATTENTION_FUNCTIONS.register(KERNEL, attend_packed)
