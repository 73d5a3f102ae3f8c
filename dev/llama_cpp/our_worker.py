"""The package as a worker (`lines.py`): the slice of `ixc bench speed --geometry 7b --layers 2`, without `generate`.

    python our_worker.py FORMAT THREADS        FORMAT: f32, bf16, q8_0 or q4_0, as llama.cpp calls them

It uses only what earlier commits have too, so that two builds can be measured in alternation.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import lines
import numpy as np
import torch
from transformers import DynamicCache

from ixc.bench.subject import Subject
from ixc.inference.prefix_cache import preallocated_cache

LAYERS, VOCAB_USED = 2, 90000
BITS = {"f32": 32, "bf16": 32, "q8_0": 8, "q4_0": 4}
"""Format -> bits of `ixc bench speed`."""


def operations() -> dict[str, lines.Operation]:
    """Make the model and return what can be asked."""
    kind = sys.argv[1]
    torch.set_num_threads(int(sys.argv[2]))
    engine = Subject(geometry="7b", layers=LAYERS).engine(BITS[kind], device="cpu")
    model: Any = engine.model
    if kind == "bf16":
        model = model.to(torch.bfloat16)
    state: dict[str, Any] = {}

    def step(ids: torch.Tensor, types: torch.Tensor | None = None) -> torch.Tensor:
        given: dict[str, Any] = {"input_ids": ids}
        if types is not None:
            embeds = model.get_input_embeddings()(ids)
            given = {"inputs_embeds": embeds, "mm_token_type_ids": types, "image_spans": ((0, ids.shape[1] - 16),)}
        with torch.inference_mode():
            return model(**given, past_key_values=state["cache"], use_cache=True, logits_to_keep=1).logits

    def prefill(tokens: int, image: bool = False) -> dict[str, float]:
        """A prompt of text, or of image tokens with 16 of text behind them."""
        ids = torch.from_numpy(np.random.default_rng(0).integers(3, VOCAB_USED, (1, tokens)))
        state["cache"]: DynamicCache = preallocated_cache()
        types = (torch.arange(tokens) < tokens - 16).long()[None] if image else None
        return lines.timed(lambda: step(ids, types))

    def question(tokens: int) -> dict[str, float]:
        """Tokens of text behind the last prefill, which stays."""
        cache: Any = state["cache"]
        behind = cache.get_seq_length()
        ids = torch.arange(17, 17 + tokens)[None]
        found = lines.timed(lambda: step(ids))
        cache.crop(behind - cache.get_seq_length())
        return found

    def memory() -> int:
        """Return the peak of this process in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def decode(behind: int, new: int) -> list[dict[str, float]]:
        """Steps behind the tokens of the last prefill, which stay; the new ones are removed."""
        found = [lines.timed(lambda at=at: step(torch.tensor([[17 + at]]))) for at in range(new)]
        cache: Any = state["cache"]
        cache.crop(behind - cache.get_seq_length())
        return found

    def vision(views: int) -> dict[str, float]:
        """Vision encoder (two layers) and projector."""
        pixels = torch.rand(views, 3, 336, 336, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return lines.timed(lambda: model.model.encode_tiles(pixels.to(model.dtype)))

    def about() -> str:
        return f"torch {torch.__version__}, {torch.get_num_threads()} threads"

    return {
        "prefill": prefill,
        "decode": decode,
        "question": question,
        "memory": memory,
        "vision": vision,
        "about": about,
    }


if __name__ == "__main__":
    lines.serve(operations)
