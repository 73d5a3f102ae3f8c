"""Logits, loss and accuracy of packed questions after image tokens, for every stage that asks questions.

Shapes: B pages, N image tokens, Q questions of T tokens, S tokens in all, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ixc.core.chat_format import IGNORED
from ixc.model.decoder import Decoder
from ixc.nano.attention_recorder import AttentionRecorder
from ixc.nano.bf16_cpu import is_active
from ixc.nano.data.question_packing import KERNEL, Form, Packed, PackedSpan, markup, pack
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.losses.probes import AuxiliaryProbes
from ixc.synth.page import DrawnPage, PageQuestion


def answer_logits(
    decoder: Decoder, image: Tensor, packed: Packed, *, plora: bool = True, recorder: AttentionRecorder | None = None
) -> Tensor:
    """Run prefix, image and packed questions through the decoder; the output head is tied to the embedding.

    Args:
        decoder: the language model.
        image: (B, N, D) image tokens.
        packed: questions of `pack`.
        plora: False leaves PLoRA out: equal while its update is zero, as initialised, and cheaper.
        recorder: records the attention of its heads on the image.
    """
    table = decoder.tok_embeddings
    start = table(torch.tensor(markup()[0])).expand(len(image), -1, -1)
    x = torch.cat([start, image, table(packed.ids)], 1)  # (B, S, D)
    types = torch.zeros(x.shape[:2], dtype=torch.long)
    span = start.shape[1], start.shape[1] + image.shape[1]
    types[:, slice(*span)] = 1
    places = () if not plora else (span,) if is_active() else None
    kernel, decoder.config._attn_implementation = decoder.config._attn_implementation, KERNEL
    try:
        hidden = decoder(
            inputs_embeds=x,
            mm_token_type_ids=types if places is None else None,
            image_mask=places,
            attention_mask=packed.mask.expand(len(x), -1, -1, -1),
            position_ids=packed.positions.expand(len(x), -1),
            use_cache=False,
            packing=PackedSpan(start.shape[1] + image.shape[1], packed.questions, recorder),
        ).last_hidden_state
    finally:
        decoder.config._attn_implementation = kernel
    return hidden[:, start.shape[1] + image.shape[1] :] @ table.weight.T


@contextmanager
def _hidden(decoder: Decoder, probes: AuxiliaryProbes | None) -> Iterator[list[Tensor]]:
    """Collect the outputs (B, S, D) of the probes' layer and the two after it while the decoder runs."""
    found: list[Tensor] = []
    asked = [] if probes is None else decoder.layers[probes.layer : probes.layer + 3]
    hooks = [layer.register_forward_hook(lambda _layer, _args, out: found.append(out)) for layer in asked]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def score(logits: Tensor, labels: Tensor, questions: int) -> tuple[Tensor, float]:
    """Mean cross entropy over the answers, and the share of answers with every character right."""
    loss, right = graded(logits, labels, questions)
    return loss, right.float().mean().item()


def graded(logits: Tensor, labels: Tensor, questions: int) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over the answers, and which are right in every character: (B, Q) bool."""
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    return loss, ((logits.argmax(-1) == labels) | (labels == IGNORED)).unflatten(1, (questions, -1)).all(-1)


@dataclass(frozen=True, kw_only=True)
class AnswerObjective:
    """How the questions are asked and what is learned beside the answers."""

    hd: int
    """Setting at which the pages are encoded."""
    attention_supervision: tuple[AttentionSupervision, ...] = ()
    """Heads with supervised targets."""
    plora: bool = True
    """As in `answer_logits`."""
    form: Form = "turn"
    """As in `pack`; `direct` for line copying."""
    probes: AuxiliaryProbes | None = None
    """Auxiliary probes of the image tokens."""


def answer_loss(
    decoder: Decoder,
    image: Tensor,
    pages: list[DrawnPage],
    asked: list[list[PageQuestion]],
    objective: AnswerObjective,
) -> tuple[tuple[Tensor, Tensor], Tensor, int]:
    """Compute the losses of questions about image tokens (B, N, D) of B pages.

    Args:
        decoder: the language model.
        image: (B, N, D) image tokens.
        pages: the pages.
        asked: Q questions of each page.
        objective: how they are asked and what else is learned.

    Returns:
        (cross entropy of the answers, weighted loss of attention supervision and probes); which answers are right,
        (B, Q) bool; number of tokens.
    """
    form, hd, probes = objective.form, objective.hd, objective.probes
    packed = pack(asked, prefix=len(markup()[0]) + image.shape[1], form=form)
    supervised = objective.attention_supervision if form != "key" else ()  # a bare key defines no targets
    recorder = AttentionRecorder(attention_supervision=supervised) if supervised else None
    with _hidden(decoder, probes) as hidden:
        logits = answer_logits(decoder, image, packed, plora=objective.plora, recorder=recorder)
    loss, right = graded(logits, packed.labels, packed.questions)
    auxiliary = torch.zeros(()) if recorder is None else recorder.loss(pages, asked, packed.firsts, hd=hd)
    if probes is not None:
        after = [layer[:, len(markup()[0]) :] for layer in hidden]
        carried = None if recorder is None or recorder.carried is None else recorder.carried[:, len(markup()[0]) :]
        auxiliary = auxiliary + probes.loss(
            after, pages, hd=hd, image=image.shape[1], asked=asked, firsts=packed.firsts, carried=carried
        )
    return (loss, auxiliary), right, len(pages) * len(packed.positions)
