"""Charts: bars, a line over years, a pie, with every value written beside its mark. Resembles ChartQA (paper)."""

from __future__ import annotations

import numpy as np

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Colour, Shape

MOST = 9
"""Most bars, points or slices."""
AXIS: Colour = (120, 120, 120)


def palette(builder: PageBuilder, count: int) -> list[Colour]:
    """Draw `count` different colours of similar brightness, light enough for dark text on them."""
    first = builder.rng.random()
    hues = [(first + i / count) % 1 for i in range(count)]
    return [(_channel(hue, 0), _channel(hue, 1 / 3), _channel(hue, 2 / 3)) for hue in hues]


def _channel(hue: float, shift: float) -> int:
    return int(120 + 110 * (0.5 + 0.5 * np.cos(2 * np.pi * (hue - shift))))


def _amounts(builder: PageBuilder, count: int) -> list[int]:
    """Draw different whole numbers, so that there is one largest and one smallest."""
    top = int(values.pick(builder.rng, ("40", "100", "900")))
    return (1 + builder.rng.permutation(top)[:count]).tolist()


def _names(builder: PageBuilder, count: int, space: float) -> list[str]:
    return values.distinct(
        builder.rng, lambda r: values.pick(r, lexicon.CITIES), count, fits=lambda n: builder.width_of(n) <= space
    )


def _compare(builder: PageBuilder, names: list[str], amounts: list[int], noun: str) -> None:
    """Add the questions that need more than one value: largest, smallest, how many, which is larger."""
    order = np.argsort(amounts)
    builder.ask("largest", f"Which {noun} is the largest?", names[order[-1]])
    builder.ask("smallest", f"Which {noun} is the smallest?", names[order[0]])
    builder.count(noun, names)
    first, second = (int(i) for i in builder.rng.permutation(len(names))[:2])
    larger = amounts[first] > amounts[second]
    builder.ask("yes_no", f"Is {names[first]} larger than {names[second]}?", "yes" if larger else "no")
    for one, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        builder.ask_extra("whose", f"Which {noun} is {amount}?", name)
        for other in range(len(names)):
            if other != one:
                answer = "yes" if amount > amounts[other] else "no"
                builder.ask_extra("larger", f"Is {name} larger than {names[other]}?", answer)


def bars(builder: PageBuilder) -> None:
    """Draw horizontal bars: name, bar, value after its end."""
    rng, style, page = builder.rng, builder.style, builder.page
    pitch = max(style.pitch, round(1.5 * style.size))
    count = min(MOST, int((page.height - builder.y - style.margin / 2) // pitch) + 1)
    left = style.margin + 6.5 * style.size
    space = page.width - style.margin - 2.8 * style.size - left
    names = _names(builder, count, 6 * style.size)
    if space < 2 * style.size or len(names) < 2:
        return
    amounts = _amounts(builder, len(names))
    scale, colours = space / max(amounts), palette(builder, len(names))
    same = rng.random() < 0.5
    for i, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        y = builder.y + i * pitch
        end = round(left + max(2, amount * scale))
        page.shapes.append(
            Shape(
                form="box", box=(round(left), y - style.size, end, y + style.size // 4), fill=colours[0 if same else i]
            )
        )
        builder.put(name, style.margin, y)
        builder.put(str(amount), end + 0.4 * style.size, y)
        builder.ask("bar", f"What is the value of {name}?", str(amount))
    bottom = builder.y + (len(names) - 1) * pitch + style.size // 2
    page.shapes.append(
        Shape(form="line", box=(round(left), builder.y - style.size, round(left), bottom), fill=AXIS, width=2)
    )
    _compare(builder, names, amounts, "bar")


def curve(builder: PageBuilder) -> None:
    """Draw a line over years, the value above each point, the years below the axis."""
    rng, style, page = builder.rng, builder.style, builder.page
    step = 3.2 * style.size
    count = min(MOST, int((page.width - 2 * style.margin) // step))
    floor = page.height - style.margin - 2 * style.size
    ceiling = builder.y + style.size
    if count < 2 or floor - ceiling < 2 * style.pitch:
        return
    first, gap = int(rng.integers(1960, 2010)), int(rng.integers(1, 6))
    years = [str(first + gap * i) for i in range(count)]
    amounts = _amounts(builder, count)
    places = []
    for i, (year, amount) in enumerate(zip(years, amounts, strict=True)):
        x = style.margin + (i + 0.5) * step
        y = round(floor - style.pitch * 0.5 - (floor - ceiling - style.pitch) * amount / max(amounts))
        places += [round(x), y]
        builder.put(year, x - builder.width_of(year) / 2, floor + round(1.3 * style.size))
        builder.put(str(amount), x - builder.width_of(str(amount)) / 2, y - style.size // 3)
        builder.ask("point", f"What is the value in {year}?", str(amount))
    colour = palette(builder, 1)[0]
    page.shapes.append(Shape(form="line", box=tuple(places), fill=colour, width=max(2, style.size // 9)))
    ends = (style.margin, floor, round(style.margin + count * step), floor)
    page.shapes.append(Shape(form="line", box=ends, fill=AXIS, width=2))
    _compare(builder, years, amounts, "year")


def pie(builder: PageBuilder) -> None:
    """Draw a pie and its legend: a square of the colour, the name, the share in percent."""
    style, page = builder.style, builder.page
    pitch = max(style.pitch, round(1.4 * style.size))
    height = page.height - style.margin - builder.y + style.size
    side = min(height, 0.45 * page.width)
    left = style.margin + side + style.size
    count = min(6, int(height // pitch), int((page.width - left) // style.size) // 2)
    space = page.width - style.margin - left - 4.2 * style.size
    names = _names(builder, count, space) if count > 1 and space > 2 * style.size else []
    if len(names) < 2:
        return
    amounts = _percents(builder, len(names))
    colours, angle = palette(builder, len(names)), -90.0
    top = builder.y - style.size
    box = tuple(round(v) for v in (style.margin, top, style.margin + side, top + side))
    for i, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        page.shapes.append(Shape(form="wedge", box=box, fill=colours[i], start=angle, end=angle + 3.6 * amount))
        angle += 3.6 * amount
        y = builder.y + i * pitch
        square = (round(left), y - round(0.7 * style.size), round(left + 0.7 * style.size), y)
        page.shapes.append(Shape(form="box", box=square, fill=colours[i]))
        builder.put(f"{name} {amount}%", left + style.size, y)
        builder.ask("slice", f"What is the share of {name}?", f"{amount}%")
    _compare(builder, names, amounts, "slice")


def _percents(builder: PageBuilder, count: int) -> list[int]:
    """Draw `count` different whole numbers with the sum 100."""
    while True:
        cuts = np.sort(builder.rng.permutation(np.arange(3, 98))[: count - 1])
        parts = np.diff(np.r_[0, cuts, 100]).tolist()
        if len(set(parts)) == count and min(parts) >= 2:
            return parts
