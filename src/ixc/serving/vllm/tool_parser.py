"""Tool calls inside vLLM: a forced call is the JSON of the grammar; with `auto` the model answers in text.

vLLM 0.32 refuses every request with tools unless `--tool-call-parser` names a parser of the model's own calls. This
model is not trained to call tools and has no such form, so this parser finds none; vLLM itself writes the grammar of a
forced call ("required", or a named tool) and reads the call from its JSON.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage, ExtractedToolCallInformation
from vllm.tool_parsers.abstract_tool_parser import ToolParser


class IxcToolParser(ToolParser):
    """Takes every answer that no grammar forced as text."""

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        return ExtractedToolCallInformation(tools_called=False, tool_calls=[], content=model_output)

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> DeltaMessage | None:
        return DeltaMessage(content=delta_text) if delta_text else None
