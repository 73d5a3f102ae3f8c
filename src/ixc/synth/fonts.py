"""Fonts of the drawn documents: those for training, those held out, and how to load them.

The files and their licences are in the folder `fonts` beside this module. Held-out fonts measure reading of glyph
shapes that training never saw. Sizes are pixels of the em square, as in Pillow.
"""

from functools import lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageFont

from ixc.errors import UsageError

_FOLDER = Path(__file__).with_name("fonts")

AILERON = "Aileron"
"""The font built into Pillow (`ImageFont.load_default`), which needs no file."""

FIRST_FONTS = ("DejaVuSans", "Lato", "LiberationSans", "NotoSans", "OpenSans", "Roboto")
"""The training fonts that the embedded model's own family of pages is drawn with."""

FIRST_HELD_OUT = ("Carlito", AILERON)
"""The held-out fonts that this family is evaluated with."""

_CUT = (
    "Andika.ttf", "Cabin.otf", "Caladea.ttf", "Cantarell.otf", "DejaVuSerif.ttf", "JetBrainsMono.ttf", "Karla.otf",
    "LiberationMono.ttf", "LiberationSerif.ttf", "NotoSerif.ttf", "Oxygen.ttf", "RobotoCondensed.ttf",
    "RobotoSlab.otf", "Vollkorn.ttf",
)  # fmt: skip
_WHOLE = {"DejaVuSans": "DejaVuSans.ttf"} | {name: f"{name}-Regular.ttf" for name in FIRST_FONTS[1:]}

TRAIN_FONTS: dict[str, Path] = {name: _FOLDER / file for name, file in _WHOLE.items()} | {
    Path(file).stem: _FOLDER / file for file in _CUT
}
"""Fonts for training, name -> file: twenty, with and without serifs, wide, narrow and monospaced."""

TEST_FONTS: dict[str, Path | None] = {
    "Carlito": _FOLDER / "Carlito-Regular.ttf",
    AILERON: None,
    "GentiumBook": _FOLDER / "GentiumBook.ttf",
    "Hack": _FOLDER / "Hack.ttf",
    "Play": _FOLDER / "Play.ttf",
    "Sora": _FOLDER / "Sora.otf",
}
"""Fonts for evaluation only, name -> file; None = built into Pillow."""


@lru_cache(maxsize=512)
def load(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load the font `name` at `size` pixels; the same object is returned on every call.

    The basic layout engine is set explicitly: where libraqm is installed, Pillow would use it, and its kerning and
    ligatures would put the same text on other pixels.

    Raises:
        UsageError: no such font, or a size below 1 px.
    """
    if size < 1:
        raise UsageError(f"a font needs at least 1 px, got {size}; documents use 10 and more")
    if name == AILERON:
        # load_default(size) takes no layout engine, so the font is built again from its bytes.
        font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
    path = (TRAIN_FONTS | TEST_FONTS).get(name)
    if path is None:
        raise UsageError(f"no font {name!r}; use one of {', '.join([*TRAIN_FONTS, *TEST_FONTS])}")
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
