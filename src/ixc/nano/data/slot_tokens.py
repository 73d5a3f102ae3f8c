"""Glyph tokens of real pages: an image token is the sum of the embeddings of its characters, rotated by their slots.

    PageText --partition, patch_slots--> SlotTokens (16 slots: four patches of four) --SlotEmbedding--> (B, N, D)

The vision encoder names the same four characters a patch (stages/vision_pretrain.py), so its projector can learn to
give these tokens. `glyph_tokens.py` is the same for pages of one size of type with one line of text a token.

Shapes: N image tokens with newlines and separator, SLOTS = 16, D width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ixc.core.tiling import TILE, partition
from ixc.nano.data import windows
from ixc.nano.data.alphabet import CLASSES, NOTHING, OTHER, text_of
from ixc.nano.data.glyph_tokens import BLOCK, NEWLINE, SEPARATOR
from ixc.nano.data.page_text import PageText
from ixc.processing.tokenization import PAGE_VOCABULARY, REPLACEMENT

SIDE = 12
"""Tokens on a side of a tile."""
SLOTS = 4 * windows.SLOTS
LEGIBLE = 7.0
"""Em in canvas pixels below which characters are left out: the encoder is not asked for smaller ones."""

LEAST_SELF_SIMILARITY = 8.0
"""Smallest logit of a character for itself in `SlotEmbedding.readout`."""


@dataclass(frozen=True, kw_only=True)
class SlotTokens:
    """One image in the model's token order."""

    classes: np.ndarray
    """(N, SLOTS) int64 of `alphabet`, 0 for none."""
    special: np.ndarray
    """(N,) int64: 0 an image position, `NEWLINE` or `SEPARATOR`."""


def region_tokens(page: PageText, *, hd: int) -> SlotTokens:
    """Overview, separator and tiles of a page under the partition rule `native` (spec e)."""
    place = partition(page.width, page.height, hd=hd, rule="native")
    scale = place.resized_width / page.width
    x, y, size = page.x * scale + place.pad_left, page.y * scale + place.pad_top, page.size * scale
    local = _grid(page.classes, x, y, size, rows=SIDE * place.grid_h, columns=SIDE * place.grid_w)
    small = min(1 / place.grid_w, 1 / place.grid_h)
    view = _grid(page.classes, x / place.grid_w, y / place.grid_h, size * small, rows=SIDE, columns=SIDE)
    parts = [_with_newlines(view), (np.zeros((1, SLOTS), np.int64), np.array([SEPARATOR])), _with_newlines(local)]
    classes, special = (np.concatenate(each) for each in zip(*parts, strict=True))
    return SlotTokens(classes=classes, special=special)


def _grid(
    classes: np.ndarray, x: np.ndarray, y: np.ndarray, size: np.ndarray, *, rows: int, columns: int
) -> np.ndarray:
    """(rows, columns, SLOTS): of each token its upper left, upper right, lower left and lower right patch."""
    legible = size >= LEGIBLE
    classes, x, y = classes[legible], x[legible], y[legible]
    patch, slot = windows.patch_slots(x, y, rows=2 * rows, columns=2 * columns)
    found = np.zeros((2 * rows * 2 * columns, windows.SLOTS), np.int64)
    kept = slot >= 0
    found[patch[kept], slot[kept]] = classes[kept]
    return found.reshape(rows, 2, columns, 2, windows.SLOTS).transpose(0, 2, 1, 3, 4).reshape(rows, columns, SLOTS)


def _with_newlines(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns, _ = grid.shape
    special = np.zeros((rows, columns + 1), np.int64)
    special[:, columns] = NEWLINE
    return np.pad(grid, ((0, 0), (0, 1), (0, 0))).reshape(-1, SLOTS), special.reshape(-1)


def misread(classes: np.ndarray, rng: np.random.Generator, *, share: float) -> np.ndarray:
    """Characters named wrongly or not at all by chance, as the encoder does: half of `share` each."""
    draw = rng.random(classes.shape)
    wrong = rng.integers(1, OTHER, size=classes.shape)
    changed = np.where(draw < share / 2, wrong, np.where(draw < share, NOTHING, classes))
    return np.where(classes == NOTHING, NOTHING, changed)


def class_ids() -> np.ndarray:
    """(CLASSES,) int64: token id of each class; `NOTHING` has none and stands as 0."""
    ids = {token: i for i, token in enumerate(PAGE_VOCABULARY)}
    found = [0] + [ids[text_of(np.array([c]))] for c in range(1, OTHER)] + [ids[REPLACEMENT]]
    return np.array(found, np.int64)


class SlotEmbedding(nn.Module):
    """Embedding of slot tokens in the language model's space.

    The rotations of the slots are fixed orthogonal matrices, block-diagonal in `BLOCK` channels. Newline and separator
    are learned.
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks = [min(BLOCK, width - start) for start in range(0, width, BLOCK)]
        rotations = [torch.linalg.qr(torch.randn(SLOTS, n, n, generator=generator))[0] for n in blocks]
        self.rotations: Tensor
        whole = torch.stack([torch.block_diag(*slot) for slot in zip(*rotations, strict=True)])
        self.register_buffer("rotations", whole, persistent=False)  # (SLOTS, D, D)
        self.ids: Tensor
        self.register_buffer("ids", torch.from_numpy(class_ids()), persistent=False)  # (CLASSES,)
        self.special_embeddings = nn.Parameter(torch.randn(2, width, generator=generator) * width**-0.5)

    def forward(self, classes: Tensor, special: Tensor, embedding: Tensor, *, noise: float = 0.0) -> Tensor:
        """Embed classes (B, N, SLOTS) and special (B, N) with the token embeddings (V, D) -> (B, N, D)."""
        letters = embedding[self.ids]  # (CLASSES, D)
        table = torch.einsum("kd,sde->ske", letters, self.rotations).flatten(0, 1)  # (SLOTS * CLASSES, D)
        slot = torch.arange(SLOTS, device=classes.device) * CLASSES
        filled = (classes != NOTHING).flatten(0, 1)
        bags = F.embedding_bag(
            (classes + slot).flatten(0, 1), table, mode="sum", per_sample_weights=filled.to(table.dtype)
        )
        x = bags.unflatten(0, classes.shape[:2])
        x = x + torch.randn_like(x) * noise * x.shape[-1] ** -0.5
        learned = torch.cat([torch.zeros_like(self.special_embeddings[:1]), self.special_embeddings])  # (3, D)
        return torch.where((special > 0)[..., None], learned[special], x)

    def readout(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Logits (n, SLOTS, CLASSES) of tokens (n, D): each slot turned back and compared with every character.

        A character's own logit is at least `LEAST_SELF_SIMILARITY`; the logit of `NOTHING` lies half-way between that
        of a character which is there and that of as many which are not.
        """
        letters = embedding[self.ids[1:]]  # (CLASSES - 1, D)
        own = letters.square().sum(-1).mean()
        scale = (LEAST_SELF_SIMILARITY / own).clamp(min=1)
        turned = torch.einsum("nd,sed->nse", tokens, self.rotations)
        nothing = ((scale * own + math.log(CLASSES)) / 2).expand(*turned.shape[:2], 1)
        return torch.cat([nothing, turned @ (scale * letters).T], -1)


def slot_loss(logits: Tensor, classes: Tensor, *, blank: float) -> tuple[Tensor, float]:
    """Weighted cross entropy of (n, SLOTS, CLASSES) against (n, SLOTS), and the share of characters named rightly.

    Args:
        blank: weight of an empty slot.
    """
    filled = classes != NOTHING
    weight = torch.where(filled, 1.0, blank)
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")
    right = (logits.argmax(-1) == classes)[filled]
    named = right.float().mean().item() if len(right) else 1.0
    return (losses * weight.flatten()).sum() / weight.sum(), named


assert TILE == SIDE * 2 * windows.PATCH

__all__ = ["SlotEmbedding", "SlotTokens", "class_ids", "misread", "region_tokens", "slot_loss"]
