#!/bin/sh
# transformers 5.24.0: `generate` hands keys and values to a model as `cache=`. A custom model class written for 5.23 and
# before, whose forward is (input_ids, past_key_values=None, **kwargs), swallows it: no error, no warning, and from the
# second token on every step sees one key. Greedy tokens differ from those computed without a cache.
#
# Guess before trying: a TypeError, or a shim that renames the argument, as outputs have one.
# Seen with transformers 5.24.0 and torch 2.13.0: different tokens, exit status 0; the one line on stderr is about the
# field of the output, which a shim does rename. With 5.23.0 the same class gives the same tokens. Exit 1 if either changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/model.py" <<'PYTHON'
import sys

import torch
import transformers
from torch import nn
from transformers import DynamicCache, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class Tiny(PreTrainedModel, GenerationMixin):
    config_class = LlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, 16)
        self.head = nn.Linear(16, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, past_key_values=None, use_cache=None, **kwargs):
        x = self.embed(input_ids)[:, None]
        keys, values = x, x
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        if past_key_values is not None:
            keys, values = past_key_values.update(x, x, 0)
        seen = keys.shape[2] - x.shape[2]
        mask = torch.ones(x.shape[2], keys.shape[2], dtype=torch.bool).tril(seen)
        y = nn.functional.scaled_dot_product_attention(x, keys, values, attn_mask=mask)[:, 0]
        return CausalLMOutputWithPast(logits=self.head(y), past_key_values=past_key_values)


torch.manual_seed(0)
model = Tiny(LlamaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)).eval()
ids = torch.tensor([[3, 14, 15, 9, 26, 5]])
both = [model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=use).tolist() for use in (True, False)]
print(transformers.__version__, "equal" if both[0] == both[1] else "different")
PYTHON
for release in 5.23.0 5.24.0; do
    python3 -m venv "$folder/$release"
    "$folder/$release/bin/pip" install -q torch==2.13.0 transformers==$release
    "$folder/$release/bin/python" "$folder/model.py" 2>/dev/null | tee -a "$folder/seen"
done
printf '5.23.0 equal\n5.24.0 different\n' | cmp -s - "$folder/seen" || { echo "this has changed"; exit 1; }
