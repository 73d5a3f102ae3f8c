"""The model as a vLLM plugin: layers, inputs, prompts, and the middleware in front of vLLM's server."""
