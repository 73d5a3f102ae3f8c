"""InternLM-XComposer2-4KHD on today's transformers."""

from ixc.auto import watch as _watch

__version__ = "0.1.0"

_watch()
