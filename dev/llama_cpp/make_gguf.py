"""Random-weight GGUF files of the decoder at the 7B's widths, two layers. Needs numpy and gguf, nothing of ixc.

    python make_gguf.py FOLDER [f32] [bf16] [q8_0] [q4_0]

Only speed is measured with them, so that the rows of a matrix repeat: 512 different ones are quantized and tiled.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

WIDTH, MLP, VOCAB, LAYERS, HEADS, KEY_HEADS, HEAD_WIDTH = 4096, 14336, 92544, 2, 32, 8, 128
"""Sizes of the published decoder (config.json of InternLM-XComposer2-4KHD-7B), but two layers of 32."""

DIFFERENT_ROWS, SPREAD = 512, 0.02
"""Rows drawn for each matrix, and their standard deviation."""

FORMATS = {"f32": (Kind.F32, 0), "bf16": (Kind.BF16, 32), "q8_0": (Kind.Q8_0, 7), "q4_0": (Kind.Q4_0, 2)}
"""Format -> type of the matrices and llama.cpp's number of the file type."""

MATRICES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (KEY_HEADS * HEAD_WIDTH, WIDTH),
    "attn_v": (KEY_HEADS * HEAD_WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (MLP, WIDTH),
    "ffn_up": (MLP, WIDTH),
    "ffn_down": (WIDTH, MLP),
}
"""Matrices of a layer, (rows, columns)."""


def matrix(rows: int, columns: int, kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix as GGUF stores it."""
    drawn = rng.standard_normal((DIFFERENT_ROWS, columns), dtype=np.float32) * SPREAD
    stored = drawn if kind == Kind.F32 else gguf.quants.quantize(drawn, kind)
    return np.tile(stored, (-(-rows // DIFFERENT_ROWS), 1))[:rows]


def write(path: Path, name: str) -> None:
    """Write one file; it appears under its name only when it is whole."""
    kind, file_type = FORMATS[name]
    rng = np.random.default_rng(0)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name("slice")
    writer.add_context_length(32768)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(file_type)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, matrix(rows, columns, kind, rng), raw_dtype=kind)

    ones = np.ones(WIDTH, dtype=np.float32)
    add("token_embd.weight", VOCAB, WIDTH)
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        for name, shape in MATRICES.items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.add_tensor("output_norm.weight", ones)
    add("output.weight", VOCAB, WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def main() -> None:
    """Write the files that are not there yet."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(FORMATS)
    for name in names:
        if not (folder / f"{name}.gguf").is_file():
            write(folder / f"{name}.gguf", name)


if __name__ == "__main__":
    main()
