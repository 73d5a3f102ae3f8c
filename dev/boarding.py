"""Before and after of recipes/lora_boarding.py, as benchmarks/lora_boarding.json: `python dev/boarding.py RUN MERGED
BEFORE.jsonl AFTER.jsonl CPU_SECONDS STEPS`; CPU_SECONDS and STEPS: `time` of a part of the run on two free cores.

The two .jsonl are kept by `ixc eval synth --kind boarding --hd 1 -n 200 --keep`, before of the embedded model. The
merged model is asked beside the unmerged one: logits and answers on the first pages.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ixc.evals.synthetic import SyntheticCase, held_out, row
from ixc.inference.engine import load as load_engine
from ixc.inference.model_folder import EMBEDDED
from ixc.model.loading import load
from ixc.runlog.jsonl import LOG, read
from ixc.synth.render import paint
from ixc.train.adapter_files import find_adapter
from ixc.train.export_adapter import with_adapter

RESULT = Path(__file__).parents[1] / "benchmarks" / "lora_boarding.json"
COMPARED = 20
"""Pages on which merged and unmerged are compared."""
FREE = 2.0
"""Seconds of a step beyond which others had the cores."""


def cases(path: str) -> list[SyntheticCase]:
    """Cases of a kept file."""
    return [SyntheticCase(**case) for line in Path(path).read_text().splitlines()[1:] for case in json.loads(line)]


def equality(run: Path, merged: Path) -> dict[str, Any]:
    """Largest difference of a logit, and pages with the same answer."""
    engine = load_engine(merged)
    beside = with_adapter(load(EMBEDDED, dtype=torch.float32), find_adapter(run)).eval()
    largest, same = 0.0, 0
    for index in range(COMPARED):
        page, asked = held_out(index, kind="boarding", hd=1)
        talk = [{"role": "user", "content": [{"type": "image", "image": paint(page)}, asked.question]}]
        batch = engine.processor.encode([talk], hd=1)
        with torch.no_grad():
            one, two = engine.model(**batch).logits, beside(**batch).logits
            largest = max(largest, float((one - two).abs().max()))
            both = [m.generate(**batch, max_new_tokens=24, do_sample=False) for m in (engine.model, beside)]
        same += int(torch.equal(both[0], both[1]))
    return {"pages": COMPARED, "same_answer": same, "largest_logit_difference": largest}


def main(run: str, merged: str, before: str, after: str, cpu: str, steps: str) -> None:
    """Writes the file."""
    lines = list(read(Path(run) / LOG))
    free = [line["seconds"] for line in lines if line["seconds"] < FREE]
    record = json.loads((find_adapter(Path(run)) / "training.json").read_text())
    result = {
        "rows": [asdict(row(name, cases(path))) for name, path in (("before", before), ("after", after))],
        "steps": record["steps"],
        "pages": sum(one["records"] for one in record["data"].values()),
        "seconds_a_step": sum(free) / len(free),
        "steps_timed": len(free),
        "cpu_seconds_a_step": float(cpu) / int(steps),
        "cores": 2,
        "merged": equality(Path(run), Path(merged)),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
