"""What a model folder may hold, for tests of everything that writes one."""

from __future__ import annotations

from pathlib import Path

from ixc.model.checkpoint_files import weight_files

SETTINGS = {
    "config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
}  # fmt: skip
"""Files that loading reads."""

ABOUT = {"README.md", "LICENSE", "training.json", "scores.json", "scores_hd55.json"}
"""Files that tell of the model."""

INDICES = {"model.safetensors.index.json", "pytorch_model.bin.index.json"}


def foreign_files(folder: Path) -> set[str]:
    """Names in a model folder that are neither weights, settings nor texts about the model.

    Engines take every file with a weights ending for weights (vLLM 0.32), so weights are what our own loader reads.
    """
    weights = {path.name for path in weight_files(folder)}
    return {path.name for path in folder.iterdir()} - weights - SETTINGS - ABOUT - INDICES
