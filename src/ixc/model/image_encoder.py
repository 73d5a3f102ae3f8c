"""Tiles to image tokens in torch alone, for ``IxcModel`` and ``standalone.py`` (paper, section 3.2; spec b to f).

    tiles, grids --views--> pictures --vision_tower, merge, vision_proj, a few at a time--> tokens --assemble--> (N, W)

Legend: V pictures (tiles and overviews), S = 336 px, N tokens of one image, W width of the language model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.model.image_features import assemble, views
from ixc.model.linear import linear

TILES_PER_PASS = {"cpu": 1, "learning": 16}
"""Pictures the tower sees at once, by device, or where gradients are wanted: bounds memory at any HD."""

TILES_PER_PASS_ELSEWHERE = 8
"""On accelerators, which one tile does not fill."""


class ImageEncoder:
    """Mixin of a module with ``config``, ``vision_tower``, ``merge``, ``vision_proj`` and both learned vectors."""

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
        """Tokens before the projector, newlines and separators included.

        Args, Raises: as ``get_image_features``.

        Returns:
            One (N, 4C) tensor an image.
        """
        pictures, grids = self._pictures(pixel_values, image_grids)
        tokens = torch.cat([self._merged(part) for part in self._passes(pictures, tiles_per_pass)])
        newline, separator = self._learned_vectors()
        return assemble(tokens[: len(pictures)], grids, newline=newline, separator=separator)

    def encode_tiles(self, pictures: torch.Tensor, *, tiles_per_pass: int | None = None) -> torch.Tensor:
        """Looks at single pictures, tiles or overviews, and projects what it sees.

        Where no gradient is wanted every pass has one shape, a short last one being filled up with zeros: a picture's
        features then do not depend on its company, bit by bit, and may be kept.

        Args:
            pictures: (V, 3, S, S) float, normalised.
            tiles_per_pass: pictures at once. Default: ``TILES_PER_PASS``.

        Returns:
            (V, t*t, W).
        """
        passes = self._passes(pictures, tiles_per_pass)
        return torch.cat([self._projected(self._merged(part)) for part in passes])[: len(pictures)]

    def special_embeddings(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Newline and separator behind the projector, (W,) each; None where this model has none."""
        newline, separator = (
            None if mark is None else self._projected(mark[None])[0] for mark in self._learned_vectors()
        )
        return newline, separator

    def check_tiles(self, pixel_values: torch.Tensor) -> None:
        """Raises: UsageError: tiles of another size than this model's."""
        side = self.config.vision_config.image_size
        if tuple(pixel_values.shape[1:]) != (3, side, side):
            raise UsageError(f"tiles have shape {tuple(pixel_values.shape[1:])}; this model takes (3, {side}, {side})")

    def _pictures(
        self, pixel_values: torch.Tensor, image_grids: torch.Tensor
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        grids = [(int(h), int(w)) for h, w in image_grids.tolist()]
        self.check_tiles(pixel_values)
        return views(pixel_values.to(self.plora_glb_GN.device), grids, with_overview=self.config.overview), grids

    def _passes(self, pictures: torch.Tensor, size: int | None) -> list[torch.Tensor]:
        learning = torch.is_grad_enabled()
        kind = "learning" if learning else pictures.device.type
        size = size or TILES_PER_PASS.get(kind, TILES_PER_PASS_ELSEWHERE)
        parts = list(pictures.split(size))
        short = size - len(parts[-1])
        if short and not learning:
            parts[-1] = torch.cat([parts[-1], pictures.new_zeros(short, *pictures.shape[1:])])
        return parts

    def _merged(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.merge(self.vision_tower(pictures))

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        if type(self.vision_proj) is not nn.Sequential:  # an adapter around it
            return self.vision_proj(tokens)
        first, activation, second = self.vision_proj
        return linear(second, activation(linear(first, tokens)))

    def _learned_vectors(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Newline and separator, (4C,) each, or None."""
        newline = self.plora_sub_GN.flatten() if self.config.newline else None
        return newline, self.plora_glb_GN.flatten() if self.config.overview else None
