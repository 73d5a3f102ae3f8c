#!/bin/sh
# torch 2.13.0, CPU: `F.linear(hidden[:, -1:], weight)`, the head at the last position of one sequence, is one matrix
# product while the weight requires a gradient, and a batched product of one (bmm) where it does not, as in inference. On a
# vocabulary of 92,544 by 4,096 in bfloat16 that costs several times the product: bmm packs the whole weight anew. A test
# with a fresh nn.Linear does not see it. `hidden[:, -1]`, with two dimensions, is one matrix product in both cases.
#
# Guess before trying: strides of a dimension of one do not matter, one matrix product each time.
# Seen with torch 2.13.0. Exit 1 if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/products.py" <<'PYTHON'
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

for learns in (True, False):
    weight = torch.randn(5000, 256, requires_grad=learns)
    hidden = torch.randn(1, 64, 256)
    for name, x in (("all positions", hidden), ("last", hidden[:, -1:]), ("last, 2-D", hidden[:, -1])):
        with profile(activities=[ProfilerActivity.CPU]) as profiled, torch.set_grad_enabled(learns):
            F.linear(x, weight)
        products = [event.name for event in profiled.events() if event.name in ("aten::mm", "aten::bmm")]
        print("weight learns" if learns else "weight fixed", name, *products, sep=": ")
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 numpy
"$folder/env/bin/python" "$folder/products.py" 2> "$folder/notes" | tee "$folder/seen"
cat > "$folder/expected" <<'TEXT'
weight learns: all positions: aten::mm
weight learns: last: aten::mm
weight learns: last, 2-D: aten::mm
weight fixed: all positions: aten::mm
weight fixed: last: aten::bmm
weight fixed: last, 2-D: aten::mm
TEXT
cmp -s "$folder/expected" "$folder/seen" || { cat "$folder/notes"; echo "this has changed"; exit 1; }
