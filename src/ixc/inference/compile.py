"""torch.compile on the tower and the decode step: off by default: the first answer waits for the compiler.

    tower         one graph a pass: passes have one shape (`IxcModel.see`), so it is compiled once
    decode step   transformers compiles it for a static cache; its length is rounded up to `ROUND` positions, so that
                  a context of 32,768 has at most 32 shapes, and a conversation of usual length one or two
    prefill       uncompiled: its length is another for every layout, and its products, nine tenths of the time, are
                  the library's in either case

A static cache belongs to one call: kept prefixes and compile exclude each other.
"""

from __future__ import annotations

from typing import Any

from transformers import CompileConfig

ROUND = 1024
"""Positions to which a static cache is rounded up."""


class Compiled:
    """Compiles the tower in place and says what `generate` needs for a compiled decode step."""

    def __init__(self, model: Any) -> None:
        self.limit = model.config.text_config.max_position_embeddings
        model.model.vision_tower.compile(dynamic=False)
        self.config = CompileConfig(mode=None, fullgraph=False, dynamic=False)
        self.config._compile_all_devices = True

    def arguments(self, tokens: int, *, beams: int) -> dict[str, Any]:
        """What `generate` takes.

        Args:
            tokens: prompt and longest answer.
            beams: with several the cache is read by rows in turn, which a static cache does too.
        """
        length = min(-(-tokens // ROUND) * ROUND, max(self.limit, tokens))
        return {"cache_implementation": "static", "compile_config": self.config, "max_cache_len": length}
