"""From tiles to image tokens, in torch alone, for ``IxcModel`` and ``standalone.py`` (paper, section 3.2; spec b to f).

    tiles, grids --views--> (V, 3, S, S) --vision_tower, merge, vision_proj in passes--> tokens --assemble--> (N, W)

Legend: V views (tiles and overviews), S = 336 px, N tokens of one image, W width of the language model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.model.image_features import all_views, assemble
from ixc.model.linear import linear

TILES_PER_PASS = {"cpu": 1, "training": 16}
"""Views of one pass through the vision tower, by device or where gradients are computed: bounds memory at any HD."""

TILES_PER_PASS_ELSEWHERE = 8
"""On accelerators, which one tile does not fill."""


class ImageEncoder:
    """Mixin for a module with ``config``, ``vision_tower``, ``merge``, ``vision_proj`` and both learned vectors."""

    if TYPE_CHECKING:
        config: Any
        vision_tower: Any
        merge: Any
        vision_proj: Any
        plora_glb_GN: nn.Parameter
        plora_sub_GN: nn.Parameter

    def image_sequences(
        self, pixel_values: torch.Tensor, image_grids: torch.Tensor, *, tiles_per_pass: int | None = None
    ) -> list[torch.Tensor]:
        """Return the tokens before the projector, newlines and separators included.

        Args, Raises: as ``get_image_features``.

        Returns:
            One (N, 4C) tensor an image.
        """
        views, grids = self._views(pixel_values, image_grids)
        tokens = torch.cat([self._merged(part) for part in self._passes(views, tiles_per_pass)])
        newline, separator = self._learned_vectors()
        return assemble(tokens[: len(views)], grids, newline=newline, separator=separator)

    def encode_tiles(self, views: torch.Tensor, *, tiles_per_pass: int | None = None) -> torch.Tensor:
        """Encode and project single views, tiles or overviews.

        Without gradients every pass has one shape, the last one padded with zeros: the features of a view then do not
        depend, bit by bit, on the other views of its pass, and may be cached.

        Args:
            views: (V, 3, S, S) float, normalised.
            tiles_per_pass: views of one pass. Default: ``TILES_PER_PASS``.

        Returns:
            (V, t*t, W).
        """
        passes = self._passes(views, tiles_per_pass)
        return torch.cat([self._projected(self._merged(part)) for part in passes])[: len(views)]

    def special_embeddings(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return newline and separator after the projector, (W,) each; None where this model has none."""
        newline, separator = (
            None if mark is None else self._projected(mark[None])[0] for mark in self._learned_vectors()
        )
        return newline, separator

    def check_tiles(self, pixel_values: torch.Tensor) -> None:
        """Check the size of tiles. Raises: UsageError: it is not this model's."""
        side = self.config.vision_config.image_size
        if tuple(pixel_values.shape[1:]) != (3, side, side):
            raise UsageError(f"tiles have shape {tuple(pixel_values.shape[1:])}; this model takes (3, {side}, {side})")

    def _views(
        self, pixel_values: torch.Tensor, image_grids: torch.Tensor
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        grids = [(int(h), int(w)) for h, w in image_grids.tolist()]
        self.check_tiles(pixel_values)
        return all_views(pixel_values.to(self.plora_glb_GN.device), grids, with_overview=self.config.overview), grids

    def _passes(self, views: torch.Tensor, size: int | None) -> list[torch.Tensor]:
        training = torch.is_grad_enabled()
        kind = "training" if training else views.device.type
        size = size or TILES_PER_PASS.get(kind, TILES_PER_PASS_ELSEWHERE)
        parts = list(views.split(size))
        short = size - len(parts[-1])
        if short and not training:
            parts[-1] = torch.cat([parts[-1], views.new_zeros(short, *views.shape[1:])])
        return parts

    def _merged(self, views: torch.Tensor) -> torch.Tensor:
        return self.merge(self.vision_tower(views))

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        if type(self.vision_proj) is not nn.Sequential:  # PEFT wraps an adapter around it
            return self.vision_proj(tokens)
        first, activation, second = self.vision_proj
        return linear(second, activation(linear(first, tokens)))

    def _learned_vectors(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return newline and separator before the projector, (4C,) each, or None."""
        newline = self.plora_sub_GN.flatten() if self.config.newline else None
        return newline, self.plora_glb_GN.flatten() if self.config.overview else None
