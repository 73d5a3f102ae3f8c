"""Measure recipes/lora_boarding.py before and after, into benchmarks/lora_boarding.json.

    python dev/boarding.py RUN MERGED BEFORE.jsonl AFTER.jsonl CPU_SECONDS STEPS

CPU_SECONDS and STEPS are from `time` of a part of the run on two idle cores. The two .jsonl files are written by
`ixc eval synth --kind boarding --hd 1 -n 200 --keep`, the first with the embedded model. The merged model is compared
with the unmerged one: logits and answers on the first pages.
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
from ixc.train.export import load_adapter

RESULT = Path(__file__).parents[1] / "benchmarks" / "lora_boarding.json"
COMPARED = 20
"""Pages on which merged and unmerged model are compared."""
MAX_IDLE_SECONDS = 2.0
"""Steps that took longer, in seconds, shared the cores with other work and are left out of the mean."""


def cases(path: str) -> list[SyntheticCase]:
    """Return the cases of a file of predictions."""
    return [SyntheticCase(**case) for line in Path(path).read_text().splitlines()[1:] for case in json.loads(line)]


def equality(run: Path, merged: Path) -> dict[str, Any]:
    """Return the largest difference of a logit, and the number of pages with the same answer."""
    engine = load_engine(merged)
    unmerged = load_adapter(load(EMBEDDED, dtype=torch.float32), find_adapter(run)).eval()
    largest, same = 0.0, 0
    for index in range(COMPARED):
        page, question = held_out(index, kind="boarding", hd=1)
        messages = [{"role": "user", "content": [{"type": "image", "image": paint(page)}, question.question]}]
        batch = engine.processor.encode([messages], hd=1)
        with torch.no_grad():
            one, two = engine.model(**batch).logits, unmerged(**batch).logits
            largest = max(largest, float((one - two).abs().max()))
            both = [m.generate(**batch, max_new_tokens=24, do_sample=False) for m in (engine.model, unmerged)]
        same += int(torch.equal(both[0], both[1]))
    return {"pages": COMPARED, "same_answer": same, "largest_logit_difference": largest}


def main(run: str, merged: str, before: str, after: str, cpu: str, steps: str) -> None:
    """Write the result file."""
    lines = list(read(Path(run) / LOG))
    idle = [line["seconds"] for line in lines if line["seconds"] < MAX_IDLE_SECONDS]
    record = json.loads((find_adapter(Path(run)) / "training.json").read_text())
    result = {
        "rows": [asdict(row(name, cases(path))) for name, path in (("before", before), ("after", after))],
        "steps": record["steps"],
        "pages": sum(one["records"] for one in record["data"].values()),
        "seconds_a_step": sum(idle) / len(idle),
        "steps_timed": len(idle),
        "cpu_seconds_a_step": float(cpu) / int(steps),
        "cores": 2,
        "merged": equality(Path(run), Path(merged)),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
