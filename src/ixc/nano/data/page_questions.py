"""Questions with exact answers about any page, found in its lines: what training asks and what `ixc eval pages` scores.

    PageText.lines -> candidates of every kind -> chosen, each in one of many phrasings -> PageQuestion

An answer is a string that stands on the page, `yes`, `no` or `ABSENT`. Candidates are unique: a beginning, a key or a
word that occurs twice is not asked about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from numpy.random import Generator

from ixc.nano.data.page_text import Line, PageText
from ixc.processing.tokenization import REPLACEMENT
from ixc.synth.page import PageQuestion

ABSENT = "not in the image"
"""Answer to a question about something that the page does not hold."""
MISSING = {"value": 0.25, "yes_no": 0.5}
"""Kind -> share of its questions that ask for something of another page."""
LONGEST = 60
"""Characters of an answer; longer lines are asked in part."""

PHRASINGS: dict[str, tuple[str, ...]] = {
    "line": (
        "Read on after {0}",
        "Read the line that begins with {0}",
        "What follows {0}?",
        "Continue {0}",
        "How does the line {0} go on?",
    ),
    "next": ("What comes after {0}?", "Which word follows {0}?", "Next word after {0}?", "word after {0}"),
    "previous": ("What comes before {0}?", "Which word stands before {0}?", "word before {0}"),
    "value": (
        "What is the {0}?",
        "What is {0}?",
        "{0}?",
        "{0}",
        "What's the {0}?",
        "what is the {0}",
        "Please read the {0}.",
        "Tell me the {0}.",
        "Which {0}?",
        "Find the {0}.",
        "What does it say for {0}?",
        "What is the value of {0}?",
        "{0}, please",
        "Give the {0}",
        "Can you read the {0}?",
        "I need the {0}.",
        "What is stated as {0}?",
        "What stands next to {0}?",
        "look up {0}",
        "Value of {0}?",
    ),
    "title": (
        "What is the title?",
        "Title?",
        "What's the heading?",
        "Read the title.",
        "What is the heading of the page?",
        "What is it called?",
        "Which title does it have?",
        "title",
    ),
    "first_line": ("Read the first line.", "What is on line 1?", "What does the first line say?", "first line"),
    "last_line": ("Read the last line.", "What does the last line say?", "last line", "What stands at the bottom?"),
    "known": ("{0}",),
    "yes_no": ("Is there {0}?", "Does it say {0}?", "Do you see the word {0}?", "Is {0} on the page?"),
}
"""Kind -> ways to ask for it; `{0}` is what is known."""

KEY = re.compile(r"^(?P<key>[^\W\d][^:]{1,38}?)\s?:\s(?P<value>\S.*)$")
"""A key of one to five words, a colon and a value."""
WORD = re.compile(r"^\W*(?P<word>\w[\w'’.-]*\w)\W*$")
LARGER = 1.2
"""Times the median size from which the largest line of a page is its title."""


def ask_page(
    page: PageText, rng: Generator, count: int, *, elsewhere: Sequence[str] = (), kinds: Sequence[str] = ()
) -> list[PageQuestion]:
    """Draw at most so many questions, every kind with the same probability.

    Args:
        elsewhere: keys and words of other pages, for questions that this page does not answer.
        kinds: those asked for; () for all.
    """
    lines = [line for line in page.lines if REPLACEMENT not in line.text]
    found = {kind: find(lines) for kind, find in FINDERS.items() if not kinds or kind in kinds}
    found["known"] = _known(page) if not kinds or "known" in kinds else []
    found = {kind: pairs for kind, pairs in found.items() if pairs}
    absent = [one for one in elsewhere if _nowhere(one, page)]
    asked: list[PageQuestion] = []
    for _ in range(count if found else 0):
        kind = str(rng.choice(sorted(found)))
        given, answer = found[kind][int(rng.integers(len(found[kind])))]
        if absent and rng.random() < MISSING.get(kind, 0.0):
            given, answer = absent[int(rng.integers(len(absent)))], "no" if kind == "yes_no" else ABSENT
        asked.append(PageQuestion(kind=kind, question=phrased(kind, given, rng), answer=answer))
    return asked


def phrased(kind: str, given: str, rng: Generator) -> str:
    """One of the ways to ask; a key is sometimes written in small letters."""
    forms = PHRASINGS[kind]
    if kind == "value" and rng.random() < 0.25:
        given = given.lower()
    return forms[int(rng.integers(len(forms)))].format(given)


def keys_and_words(page: PageText) -> list[str]:
    """What a page has that another may lack: its keys, and its longer words."""
    lines = [line for line in page.lines if REPLACEMENT not in line.text]
    return [*(key for key, _ in values(lines)), *(word for word in unique_words(lines) if len(word) > 4)]


def _nowhere(text: str, page: PageText) -> bool:
    whole = "\n".join(line.text for line in page.lines).lower()
    return text.lower() not in whole


Pairs = list[tuple[str, str]]
"""(what is known, answer)."""


def _known(page: PageText) -> Pairs:
    """Questions that the page was made with, where all they need is shown."""
    whole = "\n".join(line.text for line in page.lines)
    return [(one.question, one.answer) for one in page.known if all(part in whole for part in one.needs)]


def unique_words(lines: Sequence[Line]) -> list[str]:
    """Words without their punctuation that occur once."""
    found = [match["word"] for line in lines for one in line.text.split() if (match := WORD.match(one))]
    counts = Counter(word.lower() for word in found)
    return [word for word in found if counts[word.lower()] == 1]


def _neighbours(lines: Sequence[Line], step: int) -> Pairs:
    unique, pairs = set(unique_words(lines)), []
    for line in lines:
        words = [match["word"] if (match := WORD.match(one)) else "" for one in line.text.split()]
        for here, there in zip(words, words[step:] if step > 0 else ["", *words], strict=False):
            if here in unique and there:
                pairs.append((here, there))
    return pairs


def _next(lines: Sequence[Line]) -> Pairs:
    return _neighbours(lines, 1)


def _previous(lines: Sequence[Line]) -> Pairs:
    return _neighbours(lines, -1)


def _line(lines: Sequence[Line]) -> Pairs:
    whole, pairs = "\n" + "\n".join(line.text for line in lines), []
    for line in lines:
        words = line.text.split(" ")
        for count in (1, 2, 3):
            given, rest = " ".join(words[:count]), " ".join(words[count:])[:LONGEST]
            if rest and len(given) > 2 and whole.count("\n" + given) == 1:
                pairs.append((given, _whole_words(rest)))
    return pairs


def _whole_words(text: str) -> str:
    return text if len(text) < LONGEST else text.rsplit(" ", 1)[0]


def values(lines: Sequence[Line]) -> Pairs:
    """Keys and values: with a colon in one line, or a key that ends with a colon left of the only other cell."""
    pairs = []
    for line in lines:
        match = KEY.match(line.text)
        if match and len(match["value"]) <= LONGEST and len(match["key"].split()) <= 5:
            pairs.append((match["key"], match["value"]))
        elif line.text.endswith(":") and 2 <= len(line.text) - 1 <= 38 and (value := _right_of(line, lines)):
            pairs.append((line.text[:-1].rstrip(), value.text))
    counts = Counter(key.lower() for key, _ in pairs)
    return [(key, value) for key, value in pairs if counts[key.lower()] == 1]


def _right_of(key: Line, lines: Sequence[Line]) -> Line | None:
    """The next cell on a key's baseline, at most 20 em away."""
    beside = [
        line
        for line in lines
        if abs(line.y - key.y) < 0.4 * key.size and 0 < line.left - key.right < 20 * key.size
        and len(line.text) <= LONGEST
    ]  # fmt: skip
    return min(beside, key=lambda line: line.left, default=None)


def _title(lines: Sequence[Line]) -> Pairs:
    """The largest lines, where they stand in the upper half and are larger than the rest."""
    if len(lines) < 4:
        return []
    sizes = sorted(line.size for line in lines)
    largest, median = sizes[-1], sizes[len(sizes) // 2]
    title = [line for line in lines if line.size > 0.95 * largest]
    bottom = max(line.y for line in lines)
    if largest < LARGER * median or len(title) > 2 or len({line.block for line in title}) > 1:
        return []
    text = " ".join(line.text for line in title)
    if title[0].y > 0.5 * bottom or not 3 < len(text) <= LONGEST:
        return []
    return [("", text)]


def _outermost(lines: Sequence[Line], *, last: bool) -> Pairs:
    """The only line at the top or at the bottom."""
    ordered = sorted(lines, key=lambda line: line.y, reverse=last)
    if len(ordered) < 3 or abs(ordered[0].y - ordered[1].y) < 0.7 * ordered[0].size:
        return []
    return [("", _whole_words(ordered[0].text[:LONGEST]))]


def _yes_no(lines: Sequence[Line]) -> Pairs:
    return [(word, "yes") for word in unique_words(lines) if len(word) > 4]


FINDERS: dict[str, Callable[[Sequence[Line]], Pairs]] = {
    "line": _line,
    "next": _next,
    "previous": _previous,
    "value": values,
    "title": _title,
    "first_line": lambda lines: _outermost(lines, last=False),
    "last_line": lambda lines: _outermost(lines, last=True),
    "yes_no": _yes_no,
}
"""Kind -> what finds its candidates."""

__all__ = ["ABSENT", "PHRASINGS", "ask_page", "keys_and_words", "phrased", "values"]
