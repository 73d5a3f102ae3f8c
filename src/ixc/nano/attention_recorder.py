"""What heads look at while questions are answered, and how far that is from where they are told to look.

Shapes: B pages, Q questions of T tokens, P tokens before the questions, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor, nn

from ixc.nano.data.question_packing import markup
from ixc.nano.losses.attention_supervision import NOWHERE, AttentionSupervision, Places, places_of
from ixc.nano.losses.relation_targets import Link, Links, links_of
from ixc.synth.page import DrawnPage, PageQuestion

FLOOR = 1e-30
"""Least attention in the logarithm; a larger one would leave a head that looks far away without a gradient."""
LINKS = get_args(Link)


@dataclass(kw_only=True)
class AttentionRecorder:
    """What the heads of some pointers looked at in the last pass."""

    pointers: tuple[AttentionSupervision, ...]
    given: dict[AttentionSupervision, Tensor] = field(default_factory=dict)
    """Of those that are told for questions, (B, Q * T, P), rows of a softmax over what stands before the questions."""
    read: dict[AttentionSupervision, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Of those that are told for image tokens, scaled queries and keys (B, P, D) before the questions."""
    carried: Tensor | None = None
    """Values (B, P, D) of the head that finds whose an amount is."""

    def take(self, module: nn.Module, far: Callable[[int], Tensor], query: Tensor, key: Tensor, value: Tensor) -> None:
        """Keep what heads of one layer do.

        Args:
            far: head -> attention of the questions, (B, Q * T, P).
            query, key, value: before the questions, (B, H, P, D), the query scaled.
        """
        for pointer in self.pointers:
            if module.layer_idx != pointer.layer:
                continue
            if pointer.at in LINKS:
                self.read[pointer] = query[:, pointer.head], key[:, pointer.head]
            else:
                self.given[pointer] = far(pointer.head)
            if pointer.at == "owner":
                self.carried = value[:, pointer.head]

    def loss(self, pages: list[DrawnPage], asked: list[list[PageQuestion]], firsts: Tensor, *, hd: int) -> Tensor:
        """The weighted sum over the pointers. firsts: as `look_at`. hd: setting that the pages are seen at."""
        total = torch.zeros(())
        for pointer, given in self.given.items():
            places = [places_of(page, mine, hd=hd, at=pointer.at) for page, mine in zip(pages, asked, strict=True)]
            total = total + pointer.weight * look_at(given, places, firsts)
        linked = [links_of(page, hd=hd) for page in pages] if self.read else []
        for pointer, (query, key) in self.read.items():
            total = total + pointer.weight * look_back(query, key, [links[pointer.at] for links in linked])
        return total


def look_at(given: Tensor, places: Sequence[Sequence[Places | None]], firsts: Tensor) -> Tensor:
    """Mean over tokens of questions and answers of - log of what a head gives to their places; 0 where there are none.

    Args:
        given: (B, Q * T, P). places: of B pages and Q questions, from `places_of`. firsts: (B, Q), the place among a
            question's T tokens from which the first token of the answer is told.
    """
    length, before = given.shape[1] // firsts.shape[1], len(markup()[0])
    told = [
        (b, q * length + int(firsts[b, q]) + k, 0 if token == NOWHERE else before + token, (b, q, k))
        for b, page in enumerate(places)
        for q, question in enumerate(page)
        for k, tokens in (question or {}).items()
        for token in tokens
    ]
    if not told:
        return given.new_zeros(())
    number = {name: i for i, name in enumerate(dict.fromkeys(name for *_, name in told))}
    page, row, token = (torch.tensor(column) for column in list(zip(*told, strict=True))[:3])
    of = torch.tensor([number[name] for *_, name in told])
    return -(given.new_zeros(len(number)).index_add(0, of, given[page, row, token]) + FLOOR).log().mean()


def look_back(query: Tensor, key: Tensor, links: Sequence[Links]) -> Tensor:
    """Mean over linked image tokens of - log of what a head gives to their earlier ones; 0 where there are none.

    Args:
        query, key: scaled, (B, P, D) of what stands before the questions. links: of B pages.
    """
    before, away = len(markup()[0]), []
    for queries, keys, mine in zip(query, key, links, strict=True):
        if not mine:
            continue
        rows = torch.tensor([*mine]) + before
        later = torch.arange(len(keys)) > rows[:, None]
        given = (queries[rows] @ keys.T).masked_fill(later, -torch.inf).log_softmax(-1)  # (R, P)
        wanted = torch.zeros_like(later)
        for row, tokens in enumerate(mine.values()):
            wanted[row, torch.tensor([*tokens]) + before] = True
        away.append(-given.masked_fill(~wanted, -torch.inf).logsumexp(-1))
    return torch.cat(away).mean() if away else query.new_zeros(())
