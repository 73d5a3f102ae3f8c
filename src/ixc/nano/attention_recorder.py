"""Record the attention of supervised heads while questions are answered, and compute its loss against the targets.

Shapes: B pages, Q questions of T tokens, P tokens before the questions, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

import torch
from torch import Tensor, nn

from ixc.nano.data.question_packing import markup
from ixc.nano.losses.attention_supervision import NOWHERE, AttentionSupervision, Places, places_of
from ixc.nano.losses.relation_targets import Relation, Relations, relations_of
from ixc.synth.page import DrawnPage, PageQuestion

FLOOR = 1e-30
"""Smallest attention inside the logarithm; a larger one would leave a head without attention there no gradient."""
RELATIONS = get_args(Relation)


@dataclass(kw_only=True)
class AttentionRecorder:
    """Attention of the supervised heads in the last forward pass."""

    attention_supervision: tuple[AttentionSupervision, ...]
    attention: dict[AttentionSupervision, Tensor] = field(default_factory=dict)
    """Heads with targets for questions: attention (B, Q * T, P) on the tokens before the questions."""
    queries_and_keys: dict[AttentionSupervision, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Heads with targets for image tokens: scaled queries and keys (B, P, D) before the questions."""
    carried: Tensor | None = None
    """Values (B, P, D) of the head with the target `value_owner`."""

    def record(
        self, module: nn.Module, far: Callable[[int], Tensor], query: Tensor, key: Tensor, value: Tensor
    ) -> None:
        """Store the attention of the supervised heads of one layer.

        Args:
            module: the attention module, with `layer_idx`.
            far: head -> attention of the questions, (B, Q * T, P).
            query, key, value: before the questions, (B, H, P, D), the query scaled.
        """
        for supervision in self.attention_supervision:
            if module.layer_idx != supervision.layer:
                continue
            if supervision.target in RELATIONS:
                self.queries_and_keys[supervision] = query[:, supervision.head], key[:, supervision.head]
            else:
                self.attention[supervision] = far(supervision.head)
            if supervision.target == "value_owner":
                self.carried = value[:, supervision.head]

    def loss(self, pages: list[DrawnPage], asked: list[list[PageQuestion]], firsts: Tensor, *, hd: int) -> Tensor:
        """Weighted sum of the losses of all heads.

        Args:
            pages: B pages.
            asked: Q questions of each page.
            firsts: as in `attention_loss`.
            hd: setting at which the pages are encoded.
        """
        total = torch.zeros(())
        for supervision, given in self.attention.items():
            places = [
                places_of(page, mine, hd=hd, target=supervision.target) for page, mine in zip(pages, asked, strict=True)
            ]
            total = total + supervision.weight * attention_loss(given, places, firsts)
        related = [relations_of(page, hd=hd) for page in pages] if self.queries_and_keys else []
        for supervision, (query, key) in self.queries_and_keys.items():
            total = total + supervision.weight * relation_loss(
                query, key, [relations[cast(Relation, supervision.target)] for relations in related]
            )
        return total


def attention_loss(given: Tensor, places: Sequence[Sequence[Places | None]], firsts: Tensor) -> Tensor:
    """Mean negative log attention of question and answer tokens on their targets; 0 where there are none.

    Args:
        given: (B, Q * T, P) attention.
        places: targets of B pages and Q questions, from `places_of`.
        firsts: (B, Q) index among a question's T tokens of the one that predicts the answer's first token.
    """
    length, before = given.shape[1] // firsts.shape[1], len(markup()[0])
    targets = [
        (b, q * length + int(firsts[b, q]) + k, 0 if token == NOWHERE else before + token, (b, q, k))
        for b, page in enumerate(places)
        for q, question in enumerate(page)
        for k, tokens in (question or {}).items()
        for token in tokens
    ]
    if not targets:
        return given.new_zeros(())
    number = {name: i for i, name in enumerate(dict.fromkeys(name for *_, name in targets))}
    page, row, token = (torch.tensor(column) for column in list(zip(*targets, strict=True))[:3])
    of = torch.tensor([number[name] for *_, name in targets])
    return -(given.new_zeros(len(number)).index_add(0, of, given[page, row, token]) + FLOOR).log().mean()


def relation_loss(query: Tensor, key: Tensor, relations: Sequence[Relations]) -> Tensor:
    """Mean negative log attention of related image tokens on their earlier ones; 0 where there are none.

    Args:
        query, key: (B, P, D) of the tokens before the questions, the query scaled.
        relations: relation targets of B pages.
    """
    before, losses = len(markup()[0]), []
    for queries, keys, mine in zip(query, key, relations, strict=True):
        if not mine:
            continue
        rows = torch.tensor([*mine]) + before
        later = torch.arange(len(keys)) > rows[:, None]
        given = (queries[rows] @ keys.T).masked_fill(later, -torch.inf).log_softmax(-1)  # (R, P)
        wanted = torch.zeros_like(later)
        for row, tokens in enumerate(mine.values()):
            wanted[row, torch.tensor([*tokens]) + before] = True
        losses.append(-given.masked_fill(~wanted, -torch.inf).logsumexp(-1))
    return torch.cat(losses).mean() if losses else query.new_zeros(())
