"""llama.cpp as a worker (`lines.py`), through the low-level interface of llama-cpp-python: no sampling, no strings.

python llama_worker.py FILE.gguf THREADS
"""

from __future__ import annotations

import sys

import lines
import llama_cpp
import numpy as np

CONTEXT, BATCH, MICRO_BATCH = 4608, 2048, 512
"""Positions of the cache; tokens of a call and of a product, llama.cpp's defaults."""

VOCAB_USED = 90000
"""Token ids are drawn below this number."""


def operations() -> dict[str, lines.Operation]:
    """Load the file and return what can be asked."""
    path, threads = sys.argv[1].encode(), int(sys.argv[2])
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path, settings)
    chosen = llama_cpp.llama_context_default_params()
    chosen.n_ctx, chosen.n_batch, chosen.n_ubatch = CONTEXT, BATCH, MICRO_BATCH
    chosen.n_threads = chosen.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, chosen)
    memory = llama_cpp.llama_get_memory(context)

    def run(tokens: list[int]) -> None:
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            ids = (llama_cpp.llama_token * len(part))(*part)  # the batch points to it and does not keep it
            batch = llama_cpp.llama_batch_get_one(ids, len(part))
            if llama_cpp.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")
        llama_cpp.llama_get_logits_ith(context, -1)

    def prefill(tokens: int) -> dict[str, float]:
        llama_cpp.llama_memory_clear(memory, True)
        ids = np.random.default_rng(0).integers(3, VOCAB_USED, tokens).tolist()
        return lines.timed(lambda: run(ids))

    def decode(behind: int, new: int) -> list[dict[str, float]]:
        """Steps behind the tokens of the last prefill, which stay; the new ones are removed."""
        found = [lines.timed(lambda at=at: run([17 + at])) for at in range(new)]
        llama_cpp.llama_memory_seq_rm(memory, 0, behind, -1)
        return found

    def about() -> str:
        return llama_cpp.llama_print_system_info().decode()

    return {"prefill": prefill, "decode": decode, "about": about}


if __name__ == "__main__":
    lines.serve(operations)
