"""How often the evidence of a right answer frames it on drawn pages; writes benchmarks/evidence_nano_202611.json.

    python dev/evidence.py [--pages 300]

Drawn pages know where every character stands. A question counts if its answer stands in exactly one text of the page
and the model answers it rightly. Boxes hold the answer if nine tenths of its characters have their centres in one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import ixc
from ixc.evals.synthetic import held_out
from ixc.inference.evidence import Evidence
from ixc.synth.page import DrawnPage, characters
from ixc.synth.render import paint
from ixc.utils.files import atomic_write

OUT = Path(__file__).parents[1] / "benchmarks" / "evidence_nano_202611.json"


def places(page: DrawnPage, answer: str) -> np.ndarray | None:
    """(n, 2) centres of an answer's characters in pixels; None where it stands in no text or in several."""
    holding = [i for i, text in enumerate(page.texts) if answer in text.string]
    if len(holding) != 1 or page.texts[holding[0]].string.count(answer) > 1 or page.rotation:
        return None
    lengths = np.cumsum([0, *(len(text.string) for text in page.texts)])
    _, x, y = characters(page)
    start = lengths[holding[0]] + page.texts[holding[0]].string.index(answer)
    return np.stack([x, y], 1)[start : start + len(answer)]


def held(centres: np.ndarray, box: Evidence, page: DrawnPage) -> bool:
    """Whether a box holds nine tenths of the characters."""
    left, top, right, bottom = box.pixels(page.width, page.height)
    inside = (centres >= (left, top)).all(1) & (centres <= (right, bottom)).all(1)
    return bool(inside.mean() >= 0.9)


def main() -> None:
    """Ask, count, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=300, help="Drawn pages, one question each.")
    pages = parser.parse_args().pages
    engine = ixc.load(device="cpu")
    counts = {"pages": pages, "right": 0, "first_box": 0, "any_box": 0}
    areas: list[float] = []
    for index in range(pages):
        page, question = held_out(index)
        centres = places(page, question.answer)
        if centres is None:
            continue
        answer = engine.ask([paint(page).convert("RGB")], question.question, evidence=True)
        if answer.text.strip() != question.answer or not answer.evidence:
            continue
        inside = [held(centres, box, page) for box in answer.evidence]
        counts["right"] += 1
        counts["first_box"] += inside[0]
        counts["any_box"] += any(inside)
        left, top, right, bottom = answer.evidence[0].box
        areas.append((right - left) * (bottom - top))
    result = counts | {
        "first_box_share": counts["first_box"] / counts["right"],
        "any_box_share": counts["any_box"] / counts["right"],
        "median_area_of_first_box": float(np.median(areas)),
    }
    atomic_write(OUT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
