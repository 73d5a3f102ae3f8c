"""The first batch as a person sees it: every conversation with its pictures, what is learned in colour.

    Batches.step(Place()) --Batches.tensors--> ids, labels, tiles of each pack --> one HTML page that needs no network

Text is drawn from the ids and the pictures from the tiles, as the model gets them: a label in the wrong place or a
picture cut wrongly shows here, whatever the data file says.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ixc.core.chat_format import IGNORED
from ixc.data.batching import Batches, MeasuredRecord, Pack
from ixc.data.mixture import StreamPosition
from ixc.errors import DataError

FIRST = "first-batch.html"
"""End of its name."""

MOST = 32
"""Conversations drawn; a step of the paper's stages has thousands."""

WIDEST = 672
"""Pixels of a picture in the page."""

STYLE = """body{font:16px/1.5 sans-serif;margin:2em;max-width:60em}
article{border:1px solid #ccc;padding:1em;margin:1em 0}
img{max-width:100%;border:1px solid #999} p{white-space:pre-wrap;font-family:monospace;overflow-wrap:anywhere}
.learned{background:#bdf0c4;color:#063b12} .image{color:#999} .given{color:#333} small{color:#666}"""

LEARNED, GIVEN, SEEN = "learned", "given", "image"
"""Classes of a run of tokens."""


def draw(batches: Batches, path: Path) -> Path:
    """Writes the page of the first step.

    Args:
        path: an HTML file; one that is there is replaced.

    Raises:
        RecordError: broken data. DataError: the disk refuses.
    """
    step = batches.step(StreamPosition())
    packs = [pack for packs in step.packs for pack in packs]
    title = (
        f"{sum(map(len, packs))} conversations in {len(packs)} packs: {step.tokens:,} tokens, "
        f"{step.num_items:,} of them learned"
    )
    body = "".join(_conversations(batches, packs))
    page = (
        f'<!doctype html><meta charset="utf-8"><title>First batch</title><style>{STYLE}</style><h1>The first batch</h1>'
        f'<p>{title}\n<span class="{LEARNED}">learned</span> <span class="{GIVEN}">given</span> '
        f'<span class="{SEEN}">pictures</span></p>{body}'
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name another with --out") from error
    return path


def _conversations(batches: Batches, packs: list[Pack]) -> Iterator[str]:
    """Conversations of the packs, at most `MOST`."""
    shown = 0
    for number, pack in enumerate(packs, 1):
        for sample in pack:
            if shown == MOST:
                return
            shown += 1
            yield _conversation(batches, sample, number)


def _conversation(batches: Batches, sample: MeasuredRecord, pack: int) -> str:
    """One conversation, encoded exactly as for training."""
    tensors = batches.tensors((sample,))
    text = sample.text
    pictures = _pictures(tensors.get("pixel_values"), tensors.get("image_grids"))
    where = (
        f"{sample.draw.record.where}, pack {pack}, HD-{sample.hd}: {text.tokens:,} tokens, {sum(text.types):,} of "
        f"pictures, {text.learned:,} learned"
    )
    ids, types, labels = (tensors[name][0].tolist() for name in ("input_ids", "mm_token_type_ids", "labels"))
    runs = "".join(_runs(batches.encoder.processor.tokenizer, ids, types, labels))
    shown = "".join(f'<img alt="" src="data:image/png;base64,{picture}">' for picture in pictures)
    return f"<article><small>{escape(where)}</small><br>{shown}<p>{runs}</p></article>"


def _runs(tokenizer: Any, ids: list[int], types: list[int], labels: list[int]) -> Iterator[str]:
    """Tokens of one class after another."""
    classes = [
        SEEN if kind else GIVEN if label == IGNORED else LEARNED for kind, label in zip(types, labels, strict=True)
    ]
    for name, group in groupby(zip(classes, ids, labels, strict=True), key=lambda one: one[0]):
        run = list(group)
        if name == SEEN:
            yield f'<span class="{SEEN}">[picture: {len(run):,} tokens]</span>'
        else:
            told = [label if name == LEARNED else token for _, token, label in run]
            yield f'<span class="{name}">{escape(tokenizer.decode(told, skip_special_tokens=False))}</span>'


def _pictures(tiles: Any, grids: Any) -> Iterator[str]:
    """Each picture put together again from its tiles, as base64 PNG.

    Args:
        tiles: (tiles, 3, 336, 336) uint8, of each picture row by row; None without.
        grids: (images, 2) int64, rows and columns.
    """
    at = 0
    for rows, columns in [] if grids is None else grids.tolist():
        mine = tiles[at : at + rows * columns].numpy()
        at += rows * columns
        side = mine.shape[-1]
        whole = mine.reshape(rows, columns, 3, side, side).transpose(0, 3, 1, 4, 2)  # (rows, side, columns, side, 3)
        picture = Image.fromarray(np.ascontiguousarray(whole.reshape(rows * side, columns * side, 3)))
        picture.thumbnail((WIDEST, WIDEST))
        out = BytesIO()
        picture.save(out, "PNG")
        yield base64.b64encode(out.getvalue()).decode("ascii")
