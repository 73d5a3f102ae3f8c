"""What `launch` tells `vllm_door` through the environment: names and format, without importing a web framework."""

from __future__ import annotations

import json
from dataclasses import asdict

from ixc.serving.image_input import Limits

MIDDLEWARE = "ixc.serving.vllm.middleware.VllmMiddleware"
"""The door, as vLLM's --middleware names it."""

SETTINGS = "IXC_VLLM_MIDDLEWARE"
"""The environment variable that holds the settings."""

KEY = "IXC_API_KEY"
"""Where the API key is; apart from the settings, because those may be printed."""


def settings_text(limits: Limits, *, fetch_from: tuple[str, ...], hosts: tuple[str, ...]) -> str:
    """What `SETTINGS` holds."""
    return json.dumps({"limits": asdict(limits), "fetch_from": fetch_from, "hosts": hosts})
