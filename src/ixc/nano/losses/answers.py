"""Packed questions behind image tokens: logits, loss, which answers are right. For every stage that asks.

Shapes: B pages, N image tokens, Q questions of T tokens, S tokens in all, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from ixc.model.decoder import Decoder
from ixc.nano.attention_recorder import AttentionRecorder
from ixc.nano.bf16_cpu import is_quick
from ixc.nano.data.question_packing import IGNORE, KERNEL, Form, Packed, markup, pack
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.losses.probes import AuxiliaryProbes
from ixc.synth.page import DrawnPage, PageQuestion


def answer_logits(
    decoder: Decoder, image: Tensor, packed: Packed, *, plora: bool = True, gaze: AttentionRecorder | None = None
) -> Tensor:
    """Prefix, image and packed questions through the decoder; the head is the embedding (tied while training).

    Args:
        plora: False leaves its addition out: the same while it is zero, as it begins, and cheaper.
        gaze: told what its heads give to the image.
    """
    table = decoder.tok_embeddings
    start = table(torch.tensor(markup()[0])).expand(len(image), -1, -1)
    x = torch.cat([start, image, table(packed.ids)], 1)  # (B, S, D)
    types = torch.zeros(x.shape[:2], dtype=torch.long)
    span = start.shape[1], start.shape[1] + image.shape[1]
    types[:, slice(*span)] = 1
    places = () if not plora else (span,) if is_quick() else None
    kernel, decoder.config._attn_implementation = decoder.config._attn_implementation, KERNEL
    try:
        hidden = decoder(
            inputs_embeds=x,
            mm_token_type_ids=types if places is None else None,
            image_mask=places,
            attention_mask=packed.mask.expand(len(x), -1, -1, -1),
            position_ids=packed.positions.expand(len(x), -1),
            use_cache=False,
            prefix=start.shape[1] + image.shape[1],
            questions=packed.questions,
            gaze=gaze,
        ).last_hidden_state
    finally:
        decoder.config._attn_implementation = kernel
    return hidden[:, start.shape[1] + image.shape[1] :] @ table.weight.T


@contextmanager
def _hidden(decoder: Decoder, bearings: AuxiliaryProbes | None) -> Iterator[list[Tensor]]:
    """What the layer of the bearings and the two behind it give, (B, S, D), once the decoder has run."""
    found: list[Tensor] = []
    asked = [] if bearings is None else decoder.layers[bearings.layer : bearings.layer + 3]
    hooks = [layer.register_forward_hook(lambda _layer, _args, out: found.append(out)) for layer in asked]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def score(logits: Tensor, labels: Tensor, questions: int) -> tuple[Tensor, float]:
    """Mean cross entropy over the answers, and the share of answers that are right to the last character."""
    loss, right = marked(logits, labels, questions)
    return loss, right.float().mean().item()


def marked(logits: Tensor, labels: Tensor, questions: int) -> tuple[Tensor, Tensor]:
    """As `score`, with each answer's mark: (B, Q) bool."""
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
    return loss, ((logits.argmax(-1) == labels) | (labels == IGNORE)).unflatten(1, (questions, -1)).all(-1)


def asked_of(
    decoder: Decoder,
    image: Tensor,
    pages: list[DrawnPage],
    asked: list[list[PageQuestion]],
    *,
    hd: int,
    pointers: tuple[AttentionSupervision, ...],
    plora: bool = True,
    form: Form = "turn",
    bearings: AuxiliaryProbes | None = None,
) -> tuple[tuple[Tensor, Tensor], Tensor, int]:
    """Questions about image tokens (B, N, D) of B pages seen at a setting.

    Args:
        pointers: heads that are told where to look.
        plora, form: as in `answer_logits` and `pack`; `direct` for what is read aloud.
        bearings: asked of the image tokens.

    Returns:
        Cross entropy of the answers and the weighted loss of pointers and bearings; which are right, (B, Q) bool;
        tokens read.
    """
    packed = pack(asked, prefix=len(markup()[0]) + image.shape[1], form=form)
    gaze = AttentionRecorder(pointers=pointers) if pointers and form != "key" else None  # a bare key names no places
    with _hidden(decoder, bearings) as hidden:
        logits = answer_logits(decoder, image, packed, plora=plora, gaze=gaze)
    loss, right = marked(logits, packed.labels, packed.questions)
    away = torch.zeros(()) if gaze is None else gaze.loss(pages, asked, packed.firsts, hd=hd)
    if bearings is not None:
        behind = [layer[:, len(markup()[0]) :] for layer in hidden]
        carried = None if gaze is None or gaze.carried is None else gaze.carried[:, len(markup()[0]) :]
        away = away + bearings.loss(
            behind, pages, hd=hd, image=image.shape[1], asked=asked, firsts=packed.firsts, carried=carried
        )
    return (loss, away), right, len(pages) * len(packed.positions)
