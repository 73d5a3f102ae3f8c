"""MME (paper Table 3): points of 14 categories, and their sums for perception (of 2000) and cognition (of 800).

A category's points are its accuracy plus its accuracy+ (both questions of an image right), each times 100. VLMEvalKit
calls the second sum "reasoning", lmms-eval and the paper "cognition"; the points are the same where every image has
two questions. With more, accuracy+ looks at the first two only.
"""

from __future__ import annotations

from collections.abc import Iterable

from ixc.errors import DataError

PERCEPTION = (
    "OCR",
    "artwork",
    "celebrity",
    "color",
    "count",
    "existence",
    "landmark",
    "position",
    "posters",
    "scene",
)
REASONING = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")

Row = tuple[str, str, bool]
"""(category, image path, answered right)"""


def _points(images: dict[str, list[bool]], category: str) -> float:
    alone = [path for path, right in images.items() if len(right) < 2]
    if alone:
        raise DataError(f"MME {category}: {alone[0]} has 1 question, 2 needed; give both questions of every image")
    every = [right for answers in images.values() for right in answers]
    both = [answers[0] and answers[1] for answers in images.values()]
    return 100 * sum(every) / len(every) + 100 * sum(both) / len(both)


def mme(rows: Iterable[Row]) -> dict[str, float]:
    """Compute the points: "perception", "reasoning", then each category (0 to 200) in order of appearance.

    Raises:
        DataError: a category without questions, or an image with one question only.
    """
    images: dict[str, dict[str, list[bool]]] = {}
    for category, path, right in rows:
        images.setdefault(category, {}).setdefault(path, []).append(bool(right))
    missing = [name for name in PERCEPTION + REASONING if name not in images]
    if missing:
        raise DataError(
            f"MME: {len(missing)} of 14 categories have no questions ({', '.join(missing)}); score a whole set"
        )
    points = {category: _points(found, category) for category, found in images.items()}
    sums = {"perception": sum(points[c] for c in PERCEPTION), "reasoning": sum(points[c] for c in REASONING)}
    return sums | points
