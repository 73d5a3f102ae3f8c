#!/bin/sh
# transformers 5.24.0: in each step `generate` asks the stopping criteria before it hands the new token to the streamer. A
# criterion that looks at what a streamer has collected (a stop text, a grammar's state) is therefore one token behind.
#
# Guess before trying: the streamer has the token first.
# Seen with transformers 5.24.0, torch 2.13.0: prompt of 3, then criteria at 4 tokens, the token, criteria at 5, the token.
# Exit 1 if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/order.py" <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

seen = []


class Streamer(BaseStreamer):
    def put(self, value):
        seen.append(f"streamer got {value.numel()}")

    def end(self):
        pass


class Criterion(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        seen.append(f"criterion saw {input_ids.shape[1]}")
        return torch.zeros(len(input_ids), dtype=torch.bool)


torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))
prompt = torch.tensor([[1, 2, 3]])
model.generate(
    prompt, max_new_tokens=2, do_sample=False, eos_token_id=None, streamer=Streamer(), stopping_criteria=[Criterion()]
)
print("; ".join(seen))
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q transformers==5.24.0 torch==2.13.0
"$folder/env/bin/python" "$folder/order.py" 2> "$folder/notes" | tee "$folder/seen"
expected="streamer got 3; criterion saw 4; streamer got 1; criterion saw 5; streamer got 1"
[ "$(cat "$folder/seen")" = "$expected" ] || { cat "$folder/notes"; echo "this has changed"; exit 1; }
