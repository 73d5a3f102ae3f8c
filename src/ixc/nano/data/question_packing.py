"""Many questions behind one visual prefix: packed, each blind to the others, positions beginning anew behind the image.

    [ <s> turn user \\n | image ... image | q1 a1 pad | q2 a2 pad | ... ]

Equal to asking each question alone (tested), eight times cheaper and more.

Shapes: B pages, P = prefix + N image tokens, Q questions of T tokens, S = P + Q * T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ixc.nano import bf16_cpu
from ixc.processing.tokenization import character_tokenizer
from ixc.synth.page import PageQuestion

if TYPE_CHECKING:
    from ixc.nano.attention_recorder import AttentionRecorder

Form = Literal["turn", "key", "direct"]
"""How a question stands before its answer; see `pack`."""
IGNORE = -100
KERNEL = "ixc_packed_questions"
"""Name of `attend_packed` among the attention kernels of transformers."""


@lru_cache(maxsize=1)
def tokenizer():
    """The embedded model's tokenizer, built once."""
    return character_tokenizer()


@lru_cache(maxsize=1)
def markup() -> tuple[list[int], list[int], int]:
    """Ids before the image, ids between question and answer, and the id that ends an answer."""
    ids = tokenizer().convert_tokens_to_ids
    start, end, newline = ids("[UNUSED_TOKEN_146]"), ids("[UNUSED_TOKEN_145]"), ids("\n")
    return [ids("<s>"), start, ids("user"), newline], [end, newline, start, ids("assistant"), newline], end


@lru_cache(maxsize=1 << 16)
def encode(text: str) -> tuple[int, ...]:
    """Ids of a piece of text without markers."""
    return tuple(tokenizer().encode(text, add_special_tokens=False))


@dataclass(frozen=True, kw_only=True)
class Packed:
    """ids (B, Q * T), labels (B, Q * T) with -100 where nothing is asked, positions (S,), mask (1, 1, S, S) bool.

    questions: Q. firsts (B, Q): the place among a question's T tokens that tells the first letter of its answer.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    mask: Tensor
    questions: int
    firsts: Tensor


def choose(
    rng: Generator, questions: list[PageQuestion], count: int, *, known: Mapping[str, float] | None = None
) -> list[PageQuestion]:
    """`count` questions, every kind with the same chance, so that titles are not drowned by cells.

    Args:
        known: share of right answers by kind; then those half known are asked most (`worth`), and none twice before
            all have been asked.
    """
    kinds = sorted({q.kind for q in questions})
    by_kind = {k: [q for q in questions if q.kind == k] for k in kinds}
    if known is not None:
        return _unlike(rng, by_kind, np.array([worth(known.get(k, 0.0)) for k in kinds]), count)
    picked = []
    for _ in range(count):
        mine = by_kind[kinds[int(rng.integers(len(kinds)))]]
        picked.append(mine[int(rng.integers(len(mine)))])
    return picked


def _unlike(
    rng: Generator, by_kind: Mapping[str, list[PageQuestion]], chances: np.ndarray, count: int
) -> list[PageQuestion]:
    """`count` questions of kinds drawn by their chances, all of them before any comes again."""
    picked, left = [], [[] for _ in by_kind]
    while len(picked) < count:
        if not any(left):
            left = [[mine[i] for i in rng.permutation(len(mine))] for mine in by_kind.values()]
        open_to = chances * [bool(mine) for mine in left]
        picked.append(left[int(rng.choice(len(left), p=open_to / open_to.sum()))].pop())
    return picked


def worth(share: float) -> float:
    """How often to ask what is answered rightly in a share of the cases: most where that is near a half.

    What is always right is still asked, and what is never right more than that.
    """
    return 0.12 + 0.2 * (1 - share) + 2 * share * (1 - share)


def bare(question: str) -> str:
    """The key alone: `What is the K?` -> `K`. The first lessons ask so, with the answer right behind the key."""
    return question.removeprefix("What is the ").removesuffix("?")


def pack(pages: list[list[PageQuestion]], *, prefix: int, form: Form = "turn") -> Packed:
    """Questions of B pages (the same number each) behind `prefix` tokens.

    Args:
        form: `turn`: as a user asks. `key`: key, newline, answer. `direct`: the question as it is, the answer right
            behind its last character.
    """
    _, between, end = markup()
    asked = bare if form == "key" else str
    behind = {"turn": between, "key": between[-1:], "direct": []}[form]
    rows = [[(list(encode(asked(q.question))) + behind, [*encode(q.answer), end]) for q in page] for page in pages]
    length = max(len(q) + len(a) for row in rows for q, a in row)
    count = len(rows[0])
    ids = torch.full((len(rows), count, length), 2)
    labels = torch.full((len(rows), count, length), IGNORE)
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


def attend_packed(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    prefix: int,
    questions: int,
    gaze: AttentionRecorder | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention of `pack` without the places that its mask hides: the prefix is causal, a question sees it and itself.

    Args:
        query, key, value: (B, H, S, D). attention_mask: not read; it says the same. prefix: P. questions: Q.
        gaze: told what is looked at in the prefix.

    Returns:
        (B, S, H, D), equal to the masked whole up to rounding (to that of bf16 inside of `quick`), and no weights.
    """
    seen, shown = key[:, :, :prefix], value[:, :, :prefix]
    if bf16_cpu.takes(query):
        out = bf16_cpu.attend(query, key, value, prefix=prefix, questions=questions, scaling=scaling)
        if gaze is not None and questions:
            asked = query[:, :, prefix:] * scaling
            own = key[:, :, prefix:]
            gaze.take(
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
    if gaze is not None:
        gaze.take(module, lambda head: far[:, head], query[:, :, :prefix] * scaling, seen, shown)
    own = value[:, :, prefix:].unflatten(2, (questions, -1))
    tail = far @ shown + (near.unflatten(2, (questions, -1)) @ own).flatten(2, 3)
    return torch.cat([head, tail], 2).transpose(1, 2), None


def _weights(asked: Tensor, seen: Tensor, own: Tensor, questions: int) -> tuple[Tensor, Tensor]:
    """What questions give to the prefix (..., Q * T, P) and to their own tokens (..., Q * T, T): one softmax.

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
