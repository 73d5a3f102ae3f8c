"""The token order of one image: paper section 3.2 (overview, separator, newlines), spec (d) and (e).

    overview    side rows of  [ side tokens | newline ]              the whole canvas squeezed into one tile
    separator   one token
    local       grid_h * side rows of  [ grid_w * side tokens | newline ]      one row spans the whole mosaic of tiles

    side = 12: a 336 px tile has 24 x 24 patches of 14 px, merged 2 x 2 -> 12 x 12 tokens of 28 px.
    N = (grid_h * grid_w + 1) * 144 + 1 + (grid_h + 1) * 12, all switched on (as published).

The newline and the overview can be switched off (ablations of tables 7 and 8); without an overview there is no
separator.
A *region* is a box (x0, y0, x1, y1) in pixels of the canvas, the far edges excluded; rows and columns count tokens.

Pure Python. Pictures of the layout (`ixc plan --draw`) and attention maps are drawn from these indices.
"""

from dataclasses import dataclass
from enum import IntEnum

from ixc.core.tiling import TILE
from ixc.errors import GeometryError

PATCH = 14
"""Side of a ViT patch in pixels (CLIP ViT-L/14)."""

MERGE = 2
"""Patches merged along each side into one token (paper section 3.1)."""

SIDE = TILE // PATCH // MERGE
"""Tokens along each side of a tile: 12."""

TILE_TOKENS = SIDE * SIDE
"""Tokens of one tile: 144."""

Region = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in canvas pixels, x1 and y1 excluded."""


class Kind(IntEnum):
    """Kind of an image token."""

    OVERVIEW = 0
    OVERVIEW_NEWLINE = 1
    SEPARATOR = 2
    LOCAL = 3
    LOCAL_NEWLINE = 4


@dataclass(frozen=True)
class Token:
    """One token of the layout: its kind and its position in its own part (overview or local)."""

    kind: Kind
    row: int
    """Row of tokens, 0 for the separator."""
    col: int
    """Column of tokens; a newline is one past the last; 0 for the separator."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The sequence of tokens of one image. Indices run from 0 to num_tokens - 1."""

    grid_h: int
    """Rows of tiles."""
    grid_w: int
    """Columns of tiles."""
    tokens_per_side: int = SIDE
    """Tokens along each side of a tile."""
    newline: bool = True
    """Whether a learned token ends every row."""
    overview: bool = True
    """Whether the overview and the separator come first."""

    def __post_init__(self) -> None:
        if min(self.grid_h, self.grid_w, self.tokens_per_side) < 1:
            raise GeometryError(
                f"a layout needs at least 1 x 1 tiles of 1 token a side, got {self.grid_h} x {self.grid_w} tiles of "
                f"{self.tokens_per_side}; take the grid from partition()"
            )

    @property
    def rows(self) -> int:
        """Rows of tokens in the local part."""
        return self.grid_h * self.tokens_per_side

    @property
    def cols(self) -> int:
        """Columns of tokens in the local part, the newline not counted."""
        return self.grid_w * self.tokens_per_side

    @property
    def num_overview_tokens(self) -> int:
        """Tokens of the overview with its newlines, without the separator: 156 as published."""
        return self.tokens_per_side * (self.tokens_per_side + self.newline) if self.overview else 0

    @property
    def num_local_tokens(self) -> int:
        """Tokens of the tiles with their newlines."""
        return self.rows * (self.cols + self.newline)

    @property
    def local_start(self) -> int:
        """Index of the first local token."""
        return self.num_overview_tokens + self.overview

    @property
    def num_tokens(self) -> int:
        """All tokens of the image."""
        return self.local_start + self.num_local_tokens

    @property
    def separator(self) -> int | None:
        """Index of the separator, None without an overview."""
        return self.num_overview_tokens if self.overview else None

    def kinds(self) -> bytes:
        """One `Kind` value per token, in order; length num_tokens."""
        side, newline = self.tokens_per_side, int(self.newline)
        view = (bytes([Kind.OVERVIEW]) * side + bytes([Kind.OVERVIEW_NEWLINE]) * newline) * side
        local = (bytes([Kind.LOCAL]) * self.cols + bytes([Kind.LOCAL_NEWLINE]) * newline) * self.rows
        return (view + bytes([Kind.SEPARATOR]) if self.overview else b"") + local

    def token_at(self, row: int, col: int, *, overview: bool = False) -> int:
        """Return the index of the token at (row, col) of the local part or of the overview; inverse of `token`.

        Raises:
            GeometryError: outside the part, or there is no overview.
        """
        rows, cols = self._part(overview)
        if not (0 <= row < rows and 0 <= col < cols):
            raise GeometryError(f"no token at row {row}, column {col}: this part has {rows} x {cols} tokens")
        return (0 if overview else self.local_start) + row * (cols + self.newline) + col

    def token(self, index: int) -> Token:
        """Return kind, row and column of token `index`.

        Raises:
            GeometryError: index outside 0 .. num_tokens - 1.
        """
        if not 0 <= index < self.num_tokens:
            raise GeometryError(f"no token {index}: this image has {self.num_tokens}; use 0 .. {self.num_tokens - 1}")
        if index == self.separator:
            return Token(Kind.SEPARATOR, 0, 0)
        overview = index < self.local_start
        cols = self._part(overview)[1]
        row, col = divmod(index if overview else index - self.local_start, cols + self.newline)
        kind = Kind.OVERVIEW if overview else Kind.LOCAL
        return Token(Kind(kind + 1) if col == cols else kind, row, col)

    def region(self, index: int, *, tile: int = TILE) -> Region | None:
        """Return the canvas pixels of token `index`: 28 x 28 for a local token, a 12th of each side of the canvas for
        one of the overview; None for a newline or the separator.

        Args:
            tile: side of a tile in pixels, a multiple of tokens_per_side.
        """
        token = self.token(index)
        if token.kind not in (Kind.OVERVIEW, Kind.LOCAL):
            return None
        wide, high = self._token_size(token.kind is Kind.OVERVIEW, tile)
        return token.col * wide, token.row * high, (token.col + 1) * wide, (token.row + 1) * high

    def _part(self, overview: bool) -> tuple[int, int]:
        if not overview:
            return self.rows, self.cols
        if not self.overview:
            raise GeometryError("this layout has no overview (overview=False); make it with overview=True")
        return self.tokens_per_side, self.tokens_per_side

    def _token_size(self, overview: bool, tile: int) -> tuple[int, int]:
        if tile % self.tokens_per_side:
            raise GeometryError(
                f"a tile of {tile} px is no multiple of {self.tokens_per_side} tokens a side; use {TILE} px"
            )
        size = tile // self.tokens_per_side
        return (size * self.grid_w, size * self.grid_h) if overview else (size, size)


def num_image_tokens(grid_h: int, grid_w: int, *, side: int = SIDE, newline: bool = True, overview: bool = True) -> int:
    """Return the tokens of an image of grid_h x grid_w tiles: 12h * (12w + 1) + 156 + 1 as published.

    9 tiles in a row and 6 rows (3840 x 2160 at HD-55) -> 8,005. Source: spec (e).
    """
    return Layout(grid_h=grid_h, grid_w=grid_w, tokens_per_side=side, newline=newline, overview=overview).num_tokens
