"""What a run would cost, by the arithmetic of `ixc plan`: pages, rows, tokens, FLOP; nothing is loaded.

    pages --size of each, from headers--> inference.cost.plan --> Estimate

A page is counted as read once for all its questions, as `answering.py` reads it. Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixc.apps.reading.opening import PageOpener
from ixc.apps.reading.records import Page, Question
from ixc.errors import IxcError, MissingPackageError
from ixc.inference.cost import Plan, plan
from ixc.processing.pages import Rendering
from ixc.utils.counted import counted

LETTERS = 3
"""Letters of a question in a token, from below: its tokens are not counted but estimated from above."""

MARKUP = 16
"""Tokens of a prompt's tags, from above."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Sums over the pages of a run."""

    files: int
    """Documents."""
    pages: int
    """Pages."""
    unreadable: int
    """Pages of these that cannot be opened."""
    rows: int
    """Answers: pages times questions."""
    tiles: int
    """Tiles of all pages, overviews included."""
    image_tokens: int
    """Tokens of all pages, each once."""
    prompt_tokens: int
    """Tokens of all prompts: those of a page in each of its questions."""
    too_long: int
    """Pages that do not fit the model's positions."""
    flops: int
    """FLOP of the prefills, each page once."""
    weight_bytes: int
    """Bytes of the weights, once."""

    def text(self) -> list[str]:
        """Return lines for a terminal, label and value in two columns."""
        rows = {
            "pages": f"{self.pages:,} of {counted(self.files, 'file')}, {self.unreadable:,} cannot be opened",
            "rows": f"{self.rows:,}",
            "tiles": f"{self.tiles:,}",
            "image tokens": f"{self.image_tokens:,}, each page once",
            "prompts": f"about {self.prompt_tokens:,} tokens, {counted(self.too_long, 'page')} longer than the context",
            "prefill": f"{self.flops / 1e12:,.3g} TFLOP, a page once for all its questions",
            "weights": f"{self.weight_bytes / 1e9:.2f} GB",
        }
        return [f"{label:<14}{value}" for label, value in rows.items()]


def estimate(
    pages: Iterable[Page], questions: Sequence[Question], *, rendering: Rendering, settings: Mapping[str, Any]
) -> Estimate:
    """Estimate a run.

    Args:
        pages: as `listing.pages_of` yields them.
        questions: asked about each.
        rendering: how pages become pixels.
        settings: hd, rule, dtype and geometry of `inference.cost.plan`.

    Raises:
        GeometryError: no partition of a page. MissingPackageError: a missing extra.
    """
    text = sum(MARKUP + -(-len(each.text) // LETTERS) for each in questions)
    sums: Counter[str] = Counter()
    planned: dict[tuple[int, int], Plan] = {}
    weights, last = plan(336, 336, **settings).weight_bytes(), None
    with PageOpener(rendering) as opener:
        for page in pages:
            sums["pages"] += 1
            sums["files"] += page.file.name != last
            last = page.file.name
            size = _size(page, opener, rendering)
            if size is None:
                sums["unreadable"] += 1
                continue
            if size not in planned:
                if len(planned) > 10_000:
                    planned.clear()
                planned[size] = plan(*size, text_tokens=text, **settings)
            found = planned[size]
            sums["tiles"] += found.views
            sums["image_tokens"] += found.image_tokens
            sums["prompt_tokens"] += len(questions) * found.image_tokens + text
            sums["too_long"] += not found.fits
            sums["flops"] += sum(found.flops().values())
    names = ("files", "pages", "unreadable", "tiles", "image_tokens", "prompt_tokens", "too_long", "flops")
    return Estimate(**{name: sums[name] for name in names}, rows=sums["pages"] * len(questions), weight_bytes=weights)


def _size(page: Page, opener: PageOpener, rendering: Rendering) -> tuple[int, int] | None:
    """Return (width, height) in pixels; None where the page cannot be opened."""
    if page.error is not None:
        return None
    try:
        return opener.document(page.file).size(page.number, rendering)
    except MissingPackageError:
        raise
    except (IxcError, OSError):
        return None
