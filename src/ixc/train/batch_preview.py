"""The first batch as an HTML page: every conversation with its images, label tokens in colour.

    Batches.step(StreamPosition()) --Batches.tensors--> ids, labels, tiles of each pack --> one page without links

Text is decoded from the ids and images are assembled from the tiles, as the model gets them, so that a label in the
wrong place or an image cut wrongly is visible whatever the data file says.
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
from ixc.utils.counted import counted

FIRST = "first-batch.html"
"""End of the page's file name."""

MAX_CONVERSATIONS = 32
"""Most conversations in the page; a step of the paper's stages has thousands."""

MAX_IMAGE_SIZE = 672
"""Longest side of an image in the page, px."""

STYLE = """body{font:16px/1.5 sans-serif;margin:2em;max-width:60em}
article{border:1px solid #ccc;padding:1em;margin:1em 0}
img{max-width:100%;border:1px solid #999} p{white-space:pre-wrap;font-family:monospace;overflow-wrap:anywhere}
.learned{background:#bdf0c4;color:#063b12} .image{color:#999} .given{color:#333} small{color:#666}"""

LABEL, CONTEXT, IMAGE = "learned", "given", "image"
"""CSS classes of a run of tokens."""


def write_preview(batches: Batches, path: Path) -> Path:
    """Write the page of the first step.

    Args:
        path: an HTML file; an existing one is replaced.

    Raises:
        RecordError: broken data. DataError: the file cannot be written.
    """
    step = batches.step(StreamPosition())
    while batches.skipped is not None and _some_fail(batches, [p for packs in step.packs for p in packs]):
        step = batches.step(StreamPosition())
    packs = [pack for packs in step.packs for pack in packs]
    title = (
        f"{counted(sum(map(len, packs)), 'conversation')} in {counted(len(packs), 'pack')}: {step.tokens:,} tokens, "
        f"{step.num_labels:,} of them learned"
    )
    body = "".join(_conversations(batches, packs))
    page = (
        f'<!doctype html><meta charset="utf-8"><title>First batch</title><style>{STYLE}</style><h1>The first batch</h1>'
        f'<p>{title}\n<span class="{LABEL}">learned</span> <span class="{CONTEXT}">given</span> '
        f'<span class="{IMAGE}">pictures</span></p>{body}'
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name another with --out") from error
    return path


def _some_fail(batches: Batches, packs: list[Pack]) -> bool:
    """Whether records of the packs fail at decoding; they are left out of the next plan."""
    return not all([batches.try_tensors(pack) is not None for pack in packs])  # a list: decode all of them


def _conversations(batches: Batches, packs: list[Pack]) -> Iterator[str]:
    """Yield the conversations of the packs, at most `MAX_CONVERSATIONS`."""
    shown = 0
    for number, pack in enumerate(packs, 1):
        for sample in pack:
            if shown == MAX_CONVERSATIONS:
                return
            shown += 1
            yield _conversation(batches, sample, number)


def _conversation(batches: Batches, sample: MeasuredRecord, pack: int) -> str:
    """Return one conversation, encoded exactly as for training."""
    tensors = batches.tensors((sample,))
    text = sample.text
    pictures = _pictures(tensors.get("pixel_values"), tensors.get("image_grids"))
    where = (
        f"{sample.sampled.record.where}, pack {pack}, HD-{sample.hd}: {text.tokens:,} tokens, {sum(text.types):,} of "
        f"pictures, {text.num_labels:,} learned"
    )
    ids, types, labels = (tensors[name][0].tolist() for name in ("input_ids", "mm_token_type_ids", "labels"))
    runs = "".join(_runs(batches.encoder.processor.tokenizer, ids, types, labels))
    shown = "".join(f'<img alt="" src="data:image/png;base64,{picture}">' for picture in pictures)
    return f"<article><small>{escape(where)}</small><br>{shown}<p>{runs}</p></article>"


def _runs(tokenizer: Any, ids: list[int], types: list[int], labels: list[int]) -> Iterator[str]:
    """Yield the runs of tokens of one class."""
    classes = [
        IMAGE if kind else CONTEXT if label == IGNORED else LABEL for kind, label in zip(types, labels, strict=True)
    ]
    for name, group in groupby(zip(classes, ids, labels, strict=True), key=lambda one: one[0]):
        run = list(group)
        if name == IMAGE:
            yield f'<span class="{IMAGE}">[picture: {len(run):,} tokens]</span>'
        else:
            shown = [label if name == LABEL else token for _, token, label in run]
            yield f'<span class="{name}">{escape(tokenizer.decode(shown, skip_special_tokens=False))}</span>'


def _pictures(tiles: Any, grids: Any) -> Iterator[str]:
    """Yield each image, assembled from its tiles, as base64 PNG.

    Args:
        tiles: (tiles, 3, 336, 336) uint8, of each image row by row; None without images.
        grids: (images, 2) int64, rows and columns.
    """
    start = 0
    for rows, columns in [] if grids is None else grids.tolist():
        image_tiles = tiles[start : start + rows * columns].numpy()
        start += rows * columns
        side = image_tiles.shape[-1]
        image = image_tiles.reshape(rows, columns, 3, side, side).transpose(
            0, 3, 1, 4, 2
        )  # (rows, side, columns, side, 3)
        picture = Image.fromarray(np.ascontiguousarray(image.reshape(rows * side, columns * side, 3)))
        picture.thumbnail((MAX_IMAGE_SIZE, MAX_IMAGE_SIZE))
        out = BytesIO()
        picture.save(out, "PNG")
        yield base64.b64encode(out.getvalue()).decode("ascii")
