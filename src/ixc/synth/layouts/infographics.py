"""Infographics: panels with an icon, a heading, a large number and small text. Resembles InfoVQA (paper)."""

from __future__ import annotations

from ixc.synth import lexicon, values
from ixc.synth.charts import palette
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.layouts.prose import wrapped
from ixc.synth.page import Colour, Shape

WIDEST = 15
"""Largest width of a panel, in ems."""


def infographic(builder: PageBuilder) -> None:
    """Fill a page with a grid of panels below the title."""
    rng, style, page = builder.rng, builder.style, builder.page
    top = builder.y - style.size
    across = max(1, round((page.width - 2 * style.margin) / (WIDEST * style.size)))
    width = (page.width - 2 * style.margin) / across
    high = 4 * style.pitch + 2 * style.size
    down = int((page.height - style.margin / 2 - top) // high)
    count = across * down
    heads = values.distinct(
        rng,
        lambda r: values.pick(r, lexicon.ITEMS),
        count,
        fits=lambda h: builder.width_of(h) <= width - 3.2 * style.size,
    )
    if not heads:
        return
    pool = values.distinct(rng, lambda r: values.pick(r, lexicon.NOUNS), 8 * count, fits=lambda w: True)
    pool = [w for w in pool if not any(w in h.lower() for h in [*heads, *(t.string.lower() for t in page.texts)])]
    colours = palette(builder, len(heads))
    for i, head in enumerate(heads):
        x, y = style.margin + (i % across) * width, top + (i // across) * high
        box = (round(x), round(y), round(x + width - style.size / 2), round(y + high - style.size / 2))
        _panel(builder, head, box, pool, colours[i])
    builder.count("panel", heads)


def _panel(builder: PageBuilder, head: str, box: tuple[int, int, int, int], pool: list[str], colour: Colour) -> None:
    """Add a panel: frame, icon, heading, number, words."""
    rng, style, page = builder.rng, builder.style, builder.page
    page.shapes.append(Shape(form="box", box=box, fill=colour, width=2))
    icon = (box[0] + 6, box[1] + 6, box[0] + 6 + 2 * style.size, box[1] + 6 + 2 * style.size)
    page.shapes.append(Shape(form=values.pick(rng, ("disc", "box")), box=icon, fill=colour))
    left, line = box[0] + style.size * 0.5, box[1] + 1.5 * style.size
    builder.put(head, box[0] + 2.6 * style.size, round(line), bold=True)
    number = values.pick(rng, (values.number(rng), values.price(rng), f"{rng.integers(1, 100)}%"))
    large = round(style.size * 1.4)
    builder.put(number, left + 2.1 * style.size, round(line + 1.25 * style.pitch), size=large)
    builder.ask("panel_number", f"What is the number of {head}?", number)
    text = wrapped(builder, pool, box[2] - box[0] - style.size, 2)
    for k, words in enumerate(text):
        builder.put(" ".join(words), left, round(line + (2.4 + k) * style.pitch))
    if text:
        builder.ask("panel", f"Which panel mentions {values.pick(rng, tuple(text[0]))}?", head)
    for word in (word for words in text for word in words):
        builder.ask_extra("panel", f"Which panel mentions {word}?", head)
