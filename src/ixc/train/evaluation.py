"""Loss on held-out conversations during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ixc.data.batching import Batches, BatchSettings
from ixc.data.encoding import Encoder
from ixc.data.mixture import Mixture, Source, StreamPosition
from ixc.train.distributed import current_group

EVAL_LOSS = "eval_loss"
"""Name of the score."""


class Evaluation:
    """Mean loss over every label of the evaluation data.

    Args:
        sources: the data, validated.
        encoder: encoder of the run.
        max_tokens_per_batch: most tokens of a pack.
    """

    def __init__(self, sources: Sequence[Source], encoder: Encoder, *, max_tokens_per_batch: int) -> None:
        mixture = Mixture(sources)
        settings = BatchSettings(global_batch_size=mixture.round_length, max_tokens_per_batch=max_tokens_per_batch)
        self._batches = Batches(mixture, encoder, settings=settings)

    def __call__(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Return {"eval_loss": mean over all labels}; the model is called without gradients.

        The ranks share the packs. All of them run the same number, because decoder blocks are gathered by all ranks or
        by none: a rank that has no pack left runs the first one again and leaves its loss out.
        """
        batch = self._batches.step(StreamPosition())
        packs, device = batch.packs[0], next(model.parameters()).device
        group, total = current_group(device), 0.0
        for first in range(0, len(packs), group.world_size):
            mine = first + group.rank
            pack = packs[mine if mine < len(packs) else 0]
            tensors = {name: value.to(device) for name, value in self._batches.tensors(pack).items()}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type != "cpu"):
                outputs = model(**tensors, use_cache=False, logits_to_keep=1, num_items_in_batch=batch.num_labels)
            total += float(outputs.loss) if mine < len(packs) else 0.0
        return {EVAL_LOSS: group.all_reduce_sum(total)[0]}
