"""Charts: bars, a curve over years, a pie; every value written where it is drawn. Paper: the pictures of ChartQA."""

from __future__ import annotations

import numpy as np

from ixc.synth import lexicon, values
from ixc.synth.layouts.basic import PageBuilder
from ixc.synth.page import Colour, Shape

MOST = 9
"""Most bars, points or slices."""
AXIS: Colour = (120, 120, 120)


def palette(sheet: PageBuilder, count: int) -> list[Colour]:
    """`count` colours of about the same brightness, all different, light enough for dark text upon them."""
    turn = sheet.rng.random()
    hues = [(turn + i / count) % 1 for i in range(count)]
    wave = [tuple(0.5 + 0.5 * np.cos(2 * np.pi * (h - third)) for third in (0, 1 / 3, 2 / 3)) for h in hues]
    return [tuple(int(120 + 110 * c) for c in colour) for colour in wave]  # type: ignore[misc]


def _amounts(sheet: PageBuilder, count: int) -> list[int]:
    """Whole numbers of which no two are equal, so that there is one largest and one smallest."""
    top = int(values.pick(sheet.rng, ("40", "100", "900")))
    return (1 + sheet.rng.permutation(top)[:count]).tolist()


def _names(sheet: PageBuilder, count: int, room: float) -> list[str]:
    return values.distinct(
        sheet.rng, lambda r: values.pick(r, lexicon.CITIES), count, fits=lambda n: sheet.width_of(n) <= room
    )


def _compare(sheet: PageBuilder, names: list[str], amounts: list[int], noun: str) -> None:
    """The questions that need more than one value: largest, smallest, how many, is one larger."""
    order = np.argsort(amounts)
    sheet.ask("largest", f"Which {noun} is the largest?", names[order[-1]])
    sheet.ask("smallest", f"Which {noun} is the smallest?", names[order[0]])
    sheet.count(noun, names)
    first, second = (int(i) for i in sheet.rng.permutation(len(names))[:2])
    larger = amounts[first] > amounts[second]
    sheet.ask("yes_no", f"Is {names[first]} larger than {names[second]}?", "yes" if larger else "no")
    for one, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        sheet.drill("whose", f"Which {noun} is {amount}?", name)
        for other in range(len(names)):
            if other != one:
                answer = "yes" if amount > amounts[other] else "no"
                sheet.drill("larger", f"Is {name} larger than {names[other]}?", answer)


def bars(sheet: PageBuilder) -> None:
    """Lying bars: name, bar, value behind its end."""
    rng, style, page = sheet.rng, sheet.style, sheet.page
    pitch = max(style.pitch, round(1.5 * style.size))
    count = min(MOST, int((page.height - sheet.y - style.margin / 2) // pitch) + 1)
    left = style.margin + 6.5 * style.size
    room = page.width - style.margin - 2.8 * style.size - left
    names = _names(sheet, count, 6 * style.size)
    if room < 2 * style.size or len(names) < 2:
        return
    amounts = _amounts(sheet, len(names))
    scale, colours = room / max(amounts), palette(sheet, len(names))
    same = rng.random() < 0.5
    for i, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        y = sheet.y + i * pitch
        end = round(left + max(2, amount * scale))
        page.shapes.append(
            Shape(
                form="box", box=(round(left), y - style.size, end, y + style.size // 4), fill=colours[0 if same else i]
            )
        )
        sheet.put(name, style.margin, y)
        sheet.put(str(amount), end + 0.4 * style.size, y)
        sheet.ask("bar", f"What is the value of {name}?", str(amount))
    bottom = sheet.y + (len(names) - 1) * pitch + style.size // 2
    page.shapes.append(
        Shape(form="line", box=(round(left), sheet.y - style.size, round(left), bottom), fill=AXIS, width=2)
    )
    _compare(sheet, names, amounts, "bar")


def curve(sheet: PageBuilder) -> None:
    """A line through years, the value above each point, the years below the axis."""
    rng, style, page = sheet.rng, sheet.style, sheet.page
    step = 3.2 * style.size
    count = min(MOST, int((page.width - 2 * style.margin) // step))
    floor = page.height - style.margin - 2 * style.size
    ceiling = sheet.y + style.size
    if count < 2 or floor - ceiling < 2 * style.pitch:
        return
    first, gap = int(rng.integers(1960, 2010)), int(rng.integers(1, 6))
    years = [str(first + gap * i) for i in range(count)]
    amounts = _amounts(sheet, count)
    places = []
    for i, (year, amount) in enumerate(zip(years, amounts, strict=True)):
        x = style.margin + (i + 0.5) * step
        y = round(floor - style.pitch * 0.5 - (floor - ceiling - style.pitch) * amount / max(amounts))
        places += [round(x), y]
        sheet.put(year, x - sheet.width_of(year) / 2, floor + round(1.3 * style.size))
        sheet.put(str(amount), x - sheet.width_of(str(amount)) / 2, y - style.size // 3)
        sheet.ask("point", f"What is the value in {year}?", str(amount))
    colour = palette(sheet, 1)[0]
    page.shapes.append(Shape(form="line", box=tuple(places), fill=colour, width=max(2, style.size // 9)))
    ends = (style.margin, floor, round(style.margin + count * step), floor)
    page.shapes.append(Shape(form="line", box=ends, fill=AXIS, width=2))
    _compare(sheet, years, amounts, "year")


def pie(sheet: PageBuilder) -> None:
    """A pie and its legend: a square of the colour, the name, the share in percent."""
    style, page = sheet.style, sheet.page
    pitch = max(style.pitch, round(1.4 * style.size))
    height = page.height - style.margin - sheet.y + style.size
    side = min(height, 0.45 * page.width)
    left = style.margin + side + style.size
    count = min(6, int(height // pitch), int((page.width - left) // style.size) // 2)
    room = page.width - style.margin - left - 4.2 * style.size
    names = _names(sheet, count, room) if count > 1 and room > 2 * style.size else []
    if len(names) < 2:
        return
    amounts = _percents(sheet, len(names))
    colours, angle = palette(sheet, len(names)), -90.0
    top = sheet.y - style.size
    box = tuple(round(v) for v in (style.margin, top, style.margin + side, top + side))
    for i, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        page.shapes.append(Shape(form="wedge", box=box, fill=colours[i], start=angle, end=angle + 3.6 * amount))
        angle += 3.6 * amount
        y = sheet.y + i * pitch
        square = (round(left), y - round(0.7 * style.size), round(left + 0.7 * style.size), y)
        page.shapes.append(Shape(form="box", box=square, fill=colours[i]))
        sheet.put(f"{name} {amount}%", left + style.size, y)
        sheet.ask("slice", f"What is the share of {name}?", f"{amount}%")
    _compare(sheet, names, amounts, "slice")


def _percents(sheet: PageBuilder, count: int) -> list[int]:
    """`count` different whole numbers that make 100."""
    while True:
        cuts = np.sort(sheet.rng.permutation(np.arange(3, 98))[: count - 1])
        parts = np.diff(np.r_[0, cuts, 100]).tolist()
        if len(set(parts)) == count and min(parts) >= 2:
            return parts
