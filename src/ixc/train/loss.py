"""What a step lowers: the mean cross entropy over its labels, whatever packs, passes and devices they came in.

    loss of a step = sum over all packs and ranks of -log p(label) / labels of the whole step

So a label counts the same wherever it stands, and packing, accumulation and sharding change nothing: a packed batch of
equally long answers gives the mean of its single steps, one of unequal answers their mean weighted by labels. The
original's loss is the mean over the labels of a batch too (training cases of the goldens); a mean over conversations
would let a word of a short answer pull harder than one of a long answer.

    hidden states --where a label follows--> (L, C) --CHUNK rows at a time--> logits (CHUNK, V) --> sum

Logits are made again in the backward pass, so that no more than one chunk of them is ever there (V = 92,544).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ixc.core.chat_format import IGNORED
from ixc.errors import DataError
from ixc.train.memory_estimate import CHUNK


def cross_entropy(hidden: Tensor, labels: Tensor, head: nn.Module, *, divisor: float, chunk: int = CHUNK) -> Tensor:
    """Cross entropy of every label with the position before it, summed and divided.

    Args:
        hidden: (B, T, C), behind the last norm.
        labels: (B, T) long, not shifted; `chat.IGNORED` where nothing is learned.
        head: (L, C) -> logits (L, V).
        divisor: labels of the whole step, over all packs and ranks, > 0.
        chunk: rows whose logits are there at once, >= 1.

    Returns:
        A float32 number.

    Raises:
        DataError: no label is learned from.
    """
    targets = labels[:, 1:].to(hidden.device)
    learned = targets != IGNORED
    if not bool(learned.any()):
        raise DataError(
            f"0 of the {labels.numel():,} labels of a batch are learned from; see ixc data check for cut answers"
        )
    rows, wanted = hidden[:, :-1][learned], targets[learned]  # (L, C), (L,)
    if len(rows) <= chunk:
        return _summed(head, rows, wanted) / divisor
    parts = zip(rows.split(chunk), wanted.split(chunk), strict=True)
    sums = [checkpoint(_summed, head, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(sums).sum() / divisor


def _summed(head: nn.Module, rows: Tensor, wanted: Tensor) -> Tensor:
    """Of one chunk; the softmax in float32."""
    return F.cross_entropy(head(rows).float(), wanted, reduction="sum")


class Learner(nn.Module):
    """A model with its loss: the root of everything that is sharded, so that the head is gathered where it is used.

    Args:
        model: the model, with its adapter if it has one.
        chunk: as `cross_entropy`.
        anchored: gradients reach the first block whatever learns and whatever a pack holds. Ranks need it: blocks are
            gathered by all in the backward pass or by none, and where only the projector learns, a pack without
            pictures would send nothing back through them.
    """

    def __init__(self, model: nn.Module, *, chunk: int = CHUNK, anchored: bool = False) -> None:
        super().__init__()
        self.model, self.chunk = model, chunk
        if anchored:
            self.core.get_input_embeddings().register_forward_hook(_anchored)

    @property
    def core(self) -> Any:
        """The model itself, below PEFT's wrapper."""
        below = getattr(self.model, "get_base_model", None)
        return self.model if below is None else below()

    def forward(self, batch: Mapping[str, Tensor], *, divisor: float, with_tower: bool = False) -> Tensor:
        """The share of one pack in the loss of its step.

        Args:
            batch: as `Batches.tensors` gives it.
            divisor: labels of the whole step.
            with_tower: another rank looks at pictures now: without any of its own this one gives zeros as gradients,
                because every rank must bring the same parameters to the exchange.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        core = self.core
        hidden = core.model(**inputs, use_cache=False).last_hidden_state
        loss = cross_entropy(hidden, batch["labels"], core.output, divisor=divisor, chunk=self.chunk)
        if with_tower and "pixel_values" not in batch:
            loss = loss + sum(weight.flatten()[0] * 0.0 for weight in seeing(core) if weight.requires_grad)
        return loss


def _anchored(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
    """The same values, with a gradient; a leaf could not have pictures written into it."""
    if embedded.requires_grad or not torch.is_grad_enabled():
        return embedded
    return embedded + torch.zeros((), dtype=embedded.dtype, device=embedded.device, requires_grad=True)


def seeing(core: Any) -> list[nn.Parameter]:
    """Parameters that only a batch with pictures uses: tower, merge, projector, newline and separator."""
    return [weight for name, weight in core.model.named_parameters() if not name.startswith("language_model.")]
