"""Pages of one document in one file: a ZIP with three members a page.

    0007.png    the picture, grey or RGB
    0007.npz    code (n,) uint32, tight, loose (n, 4), origin (n, 2), size, angle (n,) float16; face, word, line, block
                (n,) int16; blank (n,) bool; order (m,) int16; coordinates in eighths of a pixel as int32
    0007.json   package, document, page, width, height, em, scale, language, faces, unmapped, characters

A glyph without a word, line or block (a rotated one) has -1 there.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ixc.errors import DataError
from ixc.nano.data.pdf_pages import TypesetPage
from ixc.nano.data.pdf_text import Glyphs
from ixc.nano.data.text_lines import TextLines

EIGHTHS = 8
"""Units of coordinates a pixel."""
PNG_LEVEL = 1
"""Compression of pictures: level 6 makes them a tenth smaller and takes five times as long."""


def add_page(file: zipfile.ZipFile, number: int, page: TypesetPage, notes: dict[str, Any]) -> None:
    """Write a page into an open ZIP."""
    glyphs, lines, name = page.glyphs, page.lines, f"{number:04d}"
    picture, arrays = BytesIO(), BytesIO()
    Image.fromarray(page.picture).save(picture, "PNG", compress_level=PNG_LEVEL)
    np.savez_compressed(
        arrays,
        code=glyphs.code.astype(np.uint32),
        **{k: np.round(getattr(glyphs, k) * EIGHTHS).astype(np.int32) for k in ("tight", "loose", "origin")},
        **{k: getattr(glyphs, k).astype(np.float16) for k in ("size", "angle")},
        face=glyphs.face.astype(np.int16),
        blank=glyphs.blank,
        **{k: getattr(lines, k).astype(np.int16) for k in ("word", "line", "block", "order")},
    )
    height, width = page.picture.shape[:2]
    facts = notes | {
        "page": number,
        "width": width,
        "height": height,
        "em": round(page.em, 2),
        "scale": round(page.scale, 4),
        "language": page.language,
        "faces": page.faces,
        "unmapped": round(page.unmapped, 4),
        "characters": len(glyphs),
    }
    file.writestr(f"{name}.png", picture.getvalue())
    file.writestr(f"{name}.npz", arrays.getvalue())
    file.writestr(f"{name}.json", json.dumps(facts, ensure_ascii=False))


def page_numbers(path: Path) -> list[int]:
    """Pages that a file holds.

    Raises:
        DataError: not a file of pages.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return sorted(int(name[:-5]) for name in file.namelist() if name.endswith(".json"))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path} is no file of pages ({error}); delete it and run ixc data pages again") from error


def read_pages(path: Path, numbers: list[int] | None = None) -> Iterator[tuple[TypesetPage, dict[str, Any]]]:
    """Pages of a file and their notes; None: all of them."""
    with zipfile.ZipFile(path) as file:
        for number in page_numbers(path) if numbers is None else numbers:
            facts = json.loads(file.read(f"{number:04d}.json"))
            picture = np.asarray(Image.open(BytesIO(file.read(f"{number:04d}.png"))))
            with np.load(BytesIO(file.read(f"{number:04d}.npz"))) as arrays:
                yield _page(picture, arrays, facts), facts


def _page(picture: np.ndarray, arrays: Any, facts: dict[str, Any]) -> TypesetPage:
    glyphs = Glyphs(
        code=arrays["code"].astype(np.int64),
        **{k: arrays[k].astype(np.float32) / EIGHTHS for k in ("tight", "loose", "origin")},
        size=arrays["size"].astype(np.float32),
        angle=arrays["angle"].astype(np.float32),
        face=arrays["face"].astype(np.int64),
        blank=arrays["blank"],
    )
    return TypesetPage(
        picture=picture,
        glyphs=glyphs,
        lines=TextLines(**{k: arrays[k].astype(np.int64) for k in ("word", "line", "block", "order")}),
        faces=tuple(facts["faces"]),
        em=facts["em"],
        scale=facts["scale"],
        language=facts["language"],
        unmapped=facts["unmapped"],
    )
