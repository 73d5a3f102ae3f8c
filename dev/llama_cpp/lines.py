"""A worker of one process: commands and results as lines of JSON on standard input and output. Standard library only.

    {"op": "prefill", "tokens": 512}  ->  {"wall": 0.61, "cpu": 0.6}

What a library prints on standard output goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Any

Operation = Callable[..., Any]


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = perf_counter(), process_time()
    run()
    return {"wall": perf_counter() - wall, "cpu": process_time() - cpu}


def serve(make: Callable[[], Mapping[str, Operation]]) -> None:
    """Build the operations, say so, and answer commands until standard input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    operations = make()
    print(json.dumps({"ready": True}), file=out)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(operations[command.pop("op")](**command)), file=out)
