"""Words, lines, blocks and reading order of a page's glyphs, from where they stand.

    glyphs in the text layer's order -> runs on one baseline -> lines -> blocks -> blocks in reading order

A line ends at a gap wider than `COLUMN` em, so cells of a table row and columns of text are lines of their own.
Rotated glyphs belong to no line (-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ixc.nano.data.pdf_text import Glyphs

UPRIGHT = 2.0
"""Degrees up to which a baseline counts as horizontal."""
COLUMN = 1.5
"""Em of a gap that ends a line."""
SPACE, NARROW_SPACE = 0.25, 0.08
"""Em of a gap between words, without and with a blank of the text layer."""
RAISED = 0.5
"""Em that a glyph may stand above or below its neighbour in a line: super- and subscripts."""
PITCH = 1.9
"""Em from baseline to baseline within a block."""
MOST_BLOCKS = 150
"""Blocks up to which reading order is found by comparing all of them; more are read from the top."""


@dataclass(frozen=True, kw_only=True)
class TextLines:
    """Numbers of the word, line and block of every glyph, in reading order."""

    word: np.ndarray
    """(n,) int64, or -1."""
    line: np.ndarray
    """(n,) int64, or -1."""
    block: np.ndarray
    """(n,) int64, or -1."""
    order: np.ndarray
    """(m,) int64: the upright glyphs in reading order."""


def find_lines(glyphs: Glyphs) -> TextLines:
    """Group the upright glyphs of a page."""
    upright = np.flatnonzero(np.abs(glyphs.angle) <= UPRIGHT)
    runs = _merged(glyphs, _runs(glyphs, upright))
    blocks = _reading_order(glyphs, runs, _blocks(glyphs, runs))
    word, line, block = (np.full(len(glyphs), -1, np.int64) for _ in range(3))
    order: list[int] = []
    words = lines = 0
    for number, members in enumerate(blocks):
        for run in members:
            starts = _word_starts(glyphs, run)
            word[run] = words + np.cumsum(starts) - 1
            line[run], block[run] = lines, number
            words, lines = words + int(starts.sum()), lines + 1
            order.extend(run.tolist())
    return TextLines(word=word, line=line, block=block, order=np.array(order, np.int64))


def line_text(glyphs: Glyphs, lines: TextLines, number: int) -> str:
    """A line's characters with one space between words."""
    run = lines.order[lines.line[lines.order] == number]
    words, text = lines.word[run], ""
    for i, glyph in enumerate(run.tolist()):
        text += (" " if i and words[i] != words[i - 1] else "") + chr(int(glyphs.code[glyph]))
    return text


def _runs(glyphs: Glyphs, upright: np.ndarray) -> list[np.ndarray]:
    """Neighbours in the text layer that go on to the right on one baseline."""
    if not len(upright):
        return []
    a, b = upright[:-1], upright[1:]
    em = np.maximum(glyphs.size[a], glyphs.size[b])
    gap = glyphs.loose[b, 0] - glyphs.loose[a, 2]
    drop = np.abs(glyphs.origin[b, 1] - glyphs.origin[a, 1])
    broken = (drop > RAISED * em) | (gap > COLUMN * em) | (gap < -em)
    return np.split(upright, np.flatnonzero(broken) + 1)


def _merged(glyphs: Glyphs, runs: list[np.ndarray]) -> list[np.ndarray]:
    """Runs that continue each other on a baseline although the text layer has them apart."""
    runs = sorted(runs, key=lambda run: (_baseline(glyphs, run), float(glyphs.loose[run[0], 0])))
    merged: list[np.ndarray] = []
    for run in runs:
        for k in range(len(merged) - 1, max(-1, len(merged) - 12), -1):
            joined = np.concatenate([merged[k], run])
            joined = joined[np.argsort(glyphs.loose[joined, 0], kind="stable")]
            if _continues(glyphs, merged[k], run):
                merged[k] = joined
                break
        else:
            merged.append(run)
    return merged


def _baseline(glyphs: Glyphs, run: np.ndarray) -> float:
    return float(np.median(glyphs.origin[run, 1]))


def _continues(glyphs: Glyphs, left: np.ndarray, right: np.ndarray) -> bool:
    em = float(max(np.median(glyphs.size[left]), np.median(glyphs.size[right])))
    if abs(_baseline(glyphs, left) - _baseline(glyphs, right)) > 0.15 * em:
        return False
    spans = [(float(glyphs.loose[r, 0].min()), float(glyphs.loose[r, 2].max())) for r in (left, right)]
    (_, b), (c, d) = sorted(spans)
    return -0.3 * em <= c - b <= COLUMN * em and d > b


def _word_starts(glyphs: Glyphs, run: np.ndarray) -> np.ndarray:
    a, b = run[:-1], run[1:]
    em = np.minimum(glyphs.size[a], glyphs.size[b])
    gap = glyphs.loose[b, 0] - glyphs.loose[a, 2]
    return np.r_[True, (gap > SPACE * em) | (glyphs.blank[b] & (gap > NARROW_SPACE * em))]


def _boxes(glyphs: Glyphs, runs: list[np.ndarray]) -> np.ndarray:
    """(lines, 4): left, top, right, bottom."""
    boxes = [(*glyphs.loose[r, :2].min(0), *glyphs.loose[r, 2:].max(0)) for r in runs]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _blocks(glyphs: Glyphs, runs: list[np.ndarray]) -> list[list[int]]:
    """Numbers of lines, each block from the top: lines below each other, of like size, that overlap."""
    if not runs:
        return []
    boxes = _boxes(glyphs, runs)
    base = np.array([_baseline(glyphs, r) for r in runs])
    size = np.array([float(np.median(glyphs.size[r])) for r in runs])
    overlap = np.minimum(boxes[:, None, 2], boxes[None, :, 2]) - np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    width = np.minimum.outer(boxes[:, 2] - boxes[:, 0], boxes[:, 2] - boxes[:, 0])
    pitch = base[None] - base[:, None]
    em = np.maximum.outer(size, size)
    alike = em < 1.35 * np.minimum.outer(size, size)
    near = alike & (overlap > 0.3 * width) & (pitch > 0.3 * em) & (pitch < PITCH * em)
    parent = list(range(len(runs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in zip(*np.nonzero(near), strict=True):
        parent[root(int(i))] = root(int(j))
    groups: dict[int, list[int]] = {}
    for i in np.lexsort((boxes[:, 0], base)).tolist():
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _reading_order(glyphs: Glyphs, runs: list[np.ndarray], blocks: list[list[int]]) -> list[list[np.ndarray]]:
    """Blocks sorted topologically (Breuel 2003): above before below, left columns before right ones."""
    if not blocks:
        return []
    lines = _boxes(glyphs, runs)
    boxes = np.array([(*lines[b, :2].min(0), *lines[b, 2:].max(0)) for b in blocks])
    by_top = np.lexsort((boxes[:, 0], boxes[:, 1])).tolist()
    order = by_top if len(blocks) > MOST_BLOCKS else _topological(boxes, by_top)
    return [[runs[i] for i in blocks[b]] for b in order]


def _topological(boxes: np.ndarray, by_top: list[int]) -> list[int]:
    count = len(boxes)
    across = np.minimum(boxes[:, None, 2], boxes[None, :, 2]) > np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    above = middle[:, None] < middle[None]
    before = across & above
    left = boxes[:, None, 2] <= boxes[None, :, 0]
    for a, b in zip(*np.nonzero(left), strict=True):
        low, high = min(boxes[a, 1], boxes[b, 1]), max(boxes[a, 3], boxes[b, 3])
        between = (middle > low) & (middle < high) & across[a] & across[b]
        before[a, b] |= not between.any()
    order: list[int] = []
    waiting = list(by_top)
    while waiting:
        rest = np.array(waiting)
        free = [i for i in waiting if not before[rest, i].any() or (before[rest, i].sum() == before[i, i])]
        order.append(free[0] if free else waiting[0])
        waiting.remove(order[-1])
    assert len(order) == count
    return order
