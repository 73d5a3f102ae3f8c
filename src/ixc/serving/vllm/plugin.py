"""The entry point `vllm.general_plugins` of this package, which vLLM calls in each of its processes.

    IxcForConditionalGeneration --ModelRegistry--> model     the model on vLLM's layers
    messages                    --renderer-------> renderer  our prompt format; special tokens in texts are text
    images                      --registry-------> inputs    tiles and grids; hd and partition of a request
    tools                       --registry-------> tool_parser   a forced call is read, `auto` answers in text
    LoRA on a processor         --platform-------> cpu_adapters  requests without an adapter stay without one

Published folders are read as the same architecture: `ixc.model.configuration` says so. Nothing of vLLM is imported here
before vLLM itself calls `register`. Written against vLLM 0.32.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

from typing import Any

ARCHITECTURE = "IxcForConditionalGeneration"
"""The class name in config.json."""

MODE = "ixc"
"""Name of our tokenizer and renderer in vLLM's --tokenizer-mode, set automatically for our architecture, and of our
tool parser in --tool-call-parser, which `ixc serve` sets."""


def register() -> None:
    """Register model, tokenizer and prompt renderer with vLLM; a second call does nothing."""
    import transformers  # noqa: F401 - with both imported, the Auto classes know this model
    from vllm import ModelRegistry  # pyright: ignore[reportAttributeAccessIssue] - where vLLM is missing
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry
    from vllm.tool_parsers import ToolParserManager

    import ixc  # noqa: F401
    from ixc.serving.vllm.cpu_adapters import use_cpu_adapters

    use_cpu_adapters()
    if ARCHITECTURE in MODELS_CONFIG_MAP:
        return
    ModelRegistry.register_model(ARCHITECTURE, "ixc.serving.vllm.model:IxcForVllm")
    TokenizerRegistry.register(MODE, "ixc.serving.vllm.renderer", "IxcVllmTokenizer")
    RENDERER_REGISTRY.register(MODE, "ixc.serving.vllm.renderer", "IxcRenderer")
    ToolParserManager.register_lazy_module(MODE, "ixc.serving.vllm.tool_parser", "IxcToolParser")
    MODELS_CONFIG_MAP[ARCHITECTURE] = _Settings  # type: ignore[assignment]


class _Settings:
    """vLLM's hooks for an architecture, called before anything is loaded."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        if model_config.tokenizer_mode == "auto":
            model_config.tokenizer_mode = MODE

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Nothing to change."""
