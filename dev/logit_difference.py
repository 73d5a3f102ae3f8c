"""Largest difference of the logits of the 7B's slice in bfloat16, 8 and 4 bits from float32.

    python dev/logit_difference.py [--tokens 512] [--out FILE]

Two layers at the 7B's widths with random weights, quantized as `ixc quantize` does; a prompt of image tokens with 16 of
text behind them and one step of decoding. Differences are of the logits of the last prompt position and of the step, as
parts of float32's standard deviation. Result: benchmarks/logit_difference_<machine>_<yyyymm>.json.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import torch
from against_llama_cpp import ROOT, processor, slug
from torch import nn

from ixc.bench.subject import Subject
from ixc.inference.prefix_cache import preallocated_cache
from ixc.model.plora import PLoRALinear
from ixc.model.quantization.layers import GROUPS, QuantizedLinear, quantize_weight
from ixc.utils.files import atomic_write

TEXT, FIRST = 16, 17
"""Tokens of text behind the image; the first token id."""


@torch.inference_mode()
def logits(model: Any, tokens: int) -> torch.Tensor:
    """Return the logits of the last position of a prompt and of the step behind it. -> (2, V) float32"""
    ids = torch.arange(FIRST, FIRST + tokens)[None]
    cache = preallocated_cache()
    shared: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    types = (torch.arange(tokens) < tokens - TEXT).long()[None]
    embeds = model.get_input_embeddings()(ids)
    image = {"inputs_embeds": embeds, "mm_token_type_ids": types, "image_spans": ((0, tokens - TEXT),)}
    found = [model(**image, **shared).logits, model(input_ids=ids[:, :1], **shared).logits]
    return torch.cat([each[0, -1:].float() for each in found])


def quantized(linear: nn.Linear, bits: int) -> QuantizedLinear:
    """Return the map in 8 or 4 bits."""
    made = QuantizedLinear(linear.in_features, linear.out_features, bits=bits, group_size=GROUPS[0])
    made.load_state_dict(quantize_weight(linear.weight, bits=bits, group_size=GROUPS[0]), assign=True)
    return made


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Logit differences of the slice.")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model: Any = Subject(geometry="7b", layers=2).engine(32, device="cpu").model
    exact = logits(model, given.tokens)
    found: dict[str, Any] = {}

    def note(name: str) -> None:
        other = logits(model, given.tokens)
        difference = (other - exact).abs() / exact.std()
        found[name] = {
            "largest": round(float(difference.max()), 4),
            "mean": round(float(difference.mean()), 4),
            "same best token": bool(torch.equal(other.argmax(-1), exact.argmax(-1))),
        }
        print(name, found[name], flush=True)

    maps = [module for module in model.modules() if isinstance(module, PLoRALinear)]
    originals, head = [module.base for module in maps], model.output
    for bits in (8, 4):
        for module, original in zip(maps, originals, strict=True):
            module.base = quantized(original, bits)  # type: ignore[assignment]
        model.output = quantized(head, bits)
        note(f"{bits} bits")
    for module, original in zip(maps, originals, strict=True):
        module.base = original
    model.output = head
    model.to(torch.bfloat16)
    note("bfloat16")
    name = processor()
    out = given.out or ROOT / "benchmarks" / f"logit_difference_{slug(name)}_{date.today():%Y%m}.json"
    about = {"date": date.today().isoformat(), "machine": name, "tokens": given.tokens, "unit": "float32's deviation"}
    atomic_write(out, json.dumps(about | {"differences": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
