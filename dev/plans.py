"""Write the plans of the 7B's recipes to benchmarks/plans_7b.json, for docs/fine-tuning.md: `python dev/plans.py`.

Nothing is measured: it is the arithmetic of `ixc plan-train`, stored so that the document can be made without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ixc.train.config import read_train_config
from ixc.train.plan import train_plan

ROOT = Path(__file__).parents[1]
DEVICES = {"pretrain_4khd": (8, 80), "sft_4khd": (8, 80), "lora": (1, 24), "qlora": (1, 24)}
"""Recipe -> (devices, memory of one in GB)."""


def plan(name: str) -> dict[str, Any]:
    """Return parts, groups, memory and devices of one recipe."""
    gpus, memory = DEVICES[name]
    found = train_plan(read_train_config(ROOT / "recipes" / f"{name}.py"), gpus=gpus, gpu_memory=memory * 1e9).as_dict()
    return {key: found[key] for key in ("parts", "groups", "memory", "needed", "gpus", "gpu_memory", "fits")}


if __name__ == "__main__":
    made = {name: plan(name) for name in DEVICES}
    (ROOT / "benchmarks/plans_7b.json").write_text(json.dumps(made, indent=1) + "\n")
