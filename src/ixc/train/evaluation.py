"""Loss on conversations that are not learned from, while a run goes on: an `Evaluate` of `tune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ixc.data.batching import Batches, BatchSettings
from ixc.data.encoding import Encoder
from ixc.data.mixture import Mixture, Source, StreamPosition
from ixc.train.distributed import present

NAME = "held_out_loss"
"""Of the score."""


class Evaluation:
    """Mean loss over every label of the data.

    Args:
        sources: the data, checked.
        encoder: that of the stage.
        budget: tokens of a pack.
    """

    def __init__(self, sources: Sequence[Source], encoder: Encoder, *, budget: int) -> None:
        mixture = Mixture(sources)
        self._batches = Batches(mixture, encoder, settings=BatchSettings(samples=mixture.round_length, budget=budget))

    def __call__(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """{"held_out_loss": mean over all labels}; the model as it is called, without gradients.

        Ranks share the packs. All of them run as many, for blocks are gathered by all or none: one that has no pack
        left runs the first again and leaves its loss out.
        """
        one = self._batches.step(StreamPosition())
        packs, where = one.packs[0], next(model.parameters()).device
        team, total = present(where), 0.0
        for first in range(0, len(packs), team.ranks):
            mine = first + team.rank
            pack = packs[mine if mine < len(packs) else 0]
            batch = {name: value.to(where) for name, value in self._batches.tensors(pack).items()}
            with torch.autocast(where.type, dtype=torch.bfloat16, enabled=where.type != "cpu"):
                found = model(**batch, use_cache=False, logits_to_keep=1, num_items_in_batch=one.num_items)
            total += float(found.loss) if mine < len(packs) else 0.0
        return {NAME: team.sums(total)[0]}
