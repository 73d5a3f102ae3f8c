"""The model inside vLLM: plugin, layers, inputs, prompts, middleware."""
