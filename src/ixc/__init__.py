"""InternLM-XComposer2-4KHD on today's transformers."""

__version__ = "0.1.0"
