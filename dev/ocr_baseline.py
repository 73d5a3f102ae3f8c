"""tesseract's lines and plain rules on the questions of `ixc eval pages`, for comparison.

    python dev/ocr_baseline.py QUESTIONS --out benchmarks/real_pages_tesseract.json

    picture --tesseract--> words with boxes --> lines --> the pairs that page_questions finds in them
    question --phrasings--> kind, what is known --nearest pair--> answer

The rules know every phrasing that the questions are made with, so what is wrong was read wrongly or not found. The time
of a page is tesseract's own, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from statistics import median

from ixc.evals.pages import PageReport, read_cases, run
from ixc.nano.data.page_questions import ABSENT, FINDERS, PHRASINGS
from ixc.nano.data.page_text import Line

NEAR = 0.72
"""Similarity from which a key read by tesseract is the one asked for."""
FORMS = [
    (kind, re.compile(re.escape(form).replace(r"\{0\}", "(?P<given>.+)"), re.IGNORECASE))
    for kind, forms in PHRASINGS.items()
    for form in sorted(forms, key=len, reverse=True)
]
ORDER = {kind: i for i, kind in enumerate(("title", "first_line", "last_line", "yes_no", "line", "next", "previous"))}
"""Kinds whose phrasings are told apart first; those of a value match almost anything."""


def words(picture: Path) -> Iterator[dict[str, str]]:
    """Rows of tesseract's table."""
    command = ["tesseract", str(picture), "-", "-l", "eng", "--psm", "3", "tsv"]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    head, *rows = done.stdout.splitlines()
    for one in rows:
        found = dict(zip(head.split("\t"), one.split("\t"), strict=False))
        if found.get("level") == "5" and found.get("text", "").strip():
            yield found


def read_lines(picture: Path) -> list[Line]:
    """Lines in tesseract's reading order."""
    grouped: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for one in words(picture):
        grouped.setdefault((one["block_num"], one["par_num"], one["line_num"]), []).append(one)
    return [line_of(mine) for mine in grouped.values()]


def line_of(mine: list[dict[str, str]]) -> Line:
    """The line of some words; its em is guessed from their height."""
    left = [float(one["left"]) for one in mine]
    right = [float(one["left"]) + float(one["width"]) for one in mine]
    height = median(float(one["height"]) for one in mine)
    y = median(float(one["top"]) + float(one["height"]) / 2 for one in mine)
    text = " ".join(one["text"] for one in mine)
    return Line(text=text, left=min(left), right=max(right), y=y, size=height * 1.3, block=int(mine[0]["block_num"]))


def understood(question: str) -> tuple[str, str]:
    """Kind of a question and what is known in it."""
    for kind, form in sorted(FORMS, key=lambda one: ORDER.get(one[0], len(ORDER))):
        if match := form.fullmatch(question):
            return kind, match.groupdict().get("given") or ""
    return "value", question


def answer(lines: list[Line], question: str) -> str:
    """The answer of the pair whose known part is nearest to the question's."""
    kind, given = understood(question)
    pairs = FINDERS[kind](lines)
    if kind in ("title", "first_line", "last_line"):
        return pairs[0][1] if pairs else (lines[-1 if kind == "last_line" else 0].text if lines else "")
    if kind == "yes_no":
        return "yes" if given.lower() in " ".join(line.text for line in lines).lower() else "no"
    near = [(SequenceMatcher(None, given.lower(), known.lower()).ratio(), said) for known, said in pairs]
    best = max(near, default=(0.0, ""))
    return best[1] if best[0] >= NEAR else ABSENT


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("questions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found: dict[Path, list[Line]] = {}

    def answers(picture: Path, question: str) -> str:
        if picture not in found:
            found[picture] = read_lines(picture)
        return answer(found[picture], question)

    *_, report = run(answers, asked.questions)
    assert isinstance(report, PageReport)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (used.ru_utime + used.ru_stime) / len({case.image for case in read_cases(asked.questions)})
    version = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    facts = {"tesseract": version, "cpu_seconds_a_page": round(seconds, 3)}
    found_groups = {name: value for name, value in report.as_dict().items() if name != "cases"}  # no text of others
    asked.out.write_text(json.dumps(facts | found_groups, indent=1, ensure_ascii=False) + "\n")
    print(report)


if __name__ == "__main__":
    main()
