"""Evaluate a run of recipes/nano_small.py into a result file: `python dev/nano_small.py RUN MINUTES CPU RESULT`.

MINUTES is the wall-clock time of the training command on two cores, CPU its user and system time, both in minutes. The
model folder is loaded as a user loads it and answers one question of each of 400 pages of the recipe's family that
training never drew.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ixc.evals.synthetic import SyntheticCase, case_of, row, rows
from ixc.inference.engine import load
from ixc.nano.drawn_config import read_recipe
from ixc.runlog.jsonl import read
from ixc.synth.config import PageFamily
from ixc.synth.page_sampling import HELD_OUT, compose
from ixc.synth.render import paint

RECIPE = Path(__file__).parents[1] / "recipes" / "nano_small.py"
STAGES = ("layout_lm", "character_pretrain", "projector_init", "ocr_alignment", "joint")
PAGES = 400


def evaluate(model: Path, family: PageFamily) -> list[SyntheticCase]:
    """Ask one question of each of `PAGES` fresh pages."""
    engine, cases, number = load(model), [], HELD_OUT
    while len(cases) < PAGES:
        page = compose(number, family=family)
        number += 1
        if not page.questions:
            continue
        asked = page.questions[int(np.random.default_rng([number, 13]).integers(len(page.questions)))]
        said = engine.ask([paint(page)], asked.question).text.strip()
        cases.append(case_of(page, asked, said, hd=page.hd))
    return cases


def main(run: str, minutes: str, cpu: str, result: str) -> None:
    """Write the result file."""
    family = read_recipe(RECIPE).joint.family
    cases = evaluate(Path(run) / "model", family)
    weights = (Path(run) / "model" / "model.safetensors").stat().st_size
    stages = {}
    for stage in STAGES:
        lines = list(read(Path(run) / f"{stage}.jsonl"))
        stages[stage] = {"steps": len(lines), "minutes": sum(line["seconds"] for line in lines) / 60}
    found = {
        "rows": [asdict(one) for one in (row("all", cases), *rows(cases, lambda case: case.page))],
        "pages": len(cases),
        "minutes": float(minutes),
        "cpu_minutes": float(cpu),
        "cores": 2,
        "parameters": weights // 4,
        "stages": stages,
        "wrong": [asdict(case) for case in cases if not case.right],
    }
    Path(result).write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["rows"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
