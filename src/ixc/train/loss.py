"""The training loss: mean cross entropy over all labels of a step, independent of packing, accumulation and sharding.

    loss of a step = sum over all packs and ranks of -log p(label) / labels of the whole step

Every label has the same weight wherever it stands: a packed batch of equally long answers gives the mean of its single
steps, one of unequal answers their mean weighted by labels. The original's loss is the mean over the labels of a batch
too (training cases of the goldens). A mean over conversations would give a word of a short answer more weight than one
of a long answer.

    hidden states --positions with a label after them--> (L, C) --CHUNK rows at a time--> logits (CHUNK, V) --> sum

Logits are computed again in the backward pass, so that never more than one chunk of them is in memory (V = 92,544).
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
    """Sum the cross entropy of every label, predicted from the position before it, and divide.

    Args:
        hidden: (B, T, C), after the last norm.
        labels: (B, T) int64, not shifted; `chat_format.IGNORED` where there is no label.
        head: (L, C) -> logits (L, V).
        divisor: labels of the whole step, over all packs and ranks, > 0.
        chunk: rows whose logits are in memory at once, >= 1.

    Returns:
        The loss, a float32 scalar.

    Raises:
        DataError: the batch has no label.
    """
    targets = labels[:, 1:].to(hidden.device)
    has_label = targets != IGNORED
    if not bool(has_label.any()):
        raise DataError(
            f"0 of the {labels.numel():,} labels of a batch are learned from; see ixc data check for cut answers"
        )
    rows, row_targets = hidden[:, :-1][has_label], targets[has_label]  # (L, C), (L,)
    if len(rows) <= chunk:
        return _sum_chunk(head, rows, row_targets) / divisor
    chunks = zip(rows.split(chunk), row_targets.split(chunk), strict=True)
    sums = [checkpoint(_sum_chunk, head, *part, use_reentrant=False, preserve_rng_state=False) for part in chunks]
    return torch.stack(sums).sum() / divisor


def _sum_chunk(head: nn.Module, rows: Tensor, targets: Tensor) -> Tensor:
    """Sum the cross entropy of one chunk; the softmax is in float32."""
    return F.cross_entropy(head(rows).float(), targets, reduction="sum")


class LossModule(nn.Module):
    """A model together with its loss.

    It is the root of everything that is sharded, so that the language-model head is gathered where it is used.

    Args:
        model: the model, with its adapter if it has one.
        chunk: as `cross_entropy`.
        grad_to_embeddings: let gradients reach the first block whatever is trained and whatever a pack holds. Ranks
            need it: in the backward pass a block is gathered by all ranks or by none, and where only the projector is
            trained a pack without images would otherwise send no gradient through the blocks.
    """

    def __init__(self, model: nn.Module, *, chunk: int = CHUNK, grad_to_embeddings: bool = False) -> None:
        super().__init__()
        self.model, self.chunk = model, chunk
        if grad_to_embeddings:
            self.core.get_input_embeddings().register_forward_hook(_require_grad)

    @property
    def core(self) -> Any:
        """The model itself, without PEFT's wrapper."""
        unwrap = getattr(self.model, "get_base_model", None)
        return self.model if unwrap is None else unwrap()

    def forward(self, batch: Mapping[str, Tensor], *, divisor: float, images_elsewhere: bool = False) -> Tensor:
        """Return the share of one pack in the loss of its step.

        Args:
            batch: as `Batches.tensors` gives it.
            divisor: labels of the whole step.
            images_elsewhere: another rank encodes images in this pass. A rank without images then contributes zero
                gradients, because all ranks must reduce gradients of the same parameters.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        core = self.core
        hidden = core.model(**inputs, use_cache=False).last_hidden_state
        loss = cross_entropy(hidden, batch["labels"], core.output, divisor=divisor, chunk=self.chunk)
        if images_elsewhere and "pixel_values" not in batch:
            loss = loss + sum(weight.flatten()[0] * 0.0 for weight in image_parameters(core) if weight.requires_grad)
        return loss


def _require_grad(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
    """Return the same values with a gradient.

    They are made a sum because image features are written into them in place, which autograd refuses for a leaf.
    """
    if embedded.requires_grad or not torch.is_grad_enabled():
        return embedded
    return embedded + torch.zeros((), dtype=embedded.dtype, device=embedded.device, requires_grad=True)


def image_parameters(core: Any) -> list[nn.Parameter]:
    """Return the parameters that only batches with images use: vision tower, merge, projector, newline, separator."""
    return [weight for name, weight in core.model.named_parameters() if not name.startswith("language_model.")]
