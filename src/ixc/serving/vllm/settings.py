"""Settings that `launch` passes to `middleware` through the environment; no web framework is imported here."""

from __future__ import annotations

import json
from dataclasses import asdict

from ixc.serving.image_input import Limits

MIDDLEWARE = "ixc.serving.vllm.middleware.VllmMiddleware"
"""The middleware, as vLLM's `--middleware` names it."""

SETTINGS = "IXC_VLLM_MIDDLEWARE"
"""The environment variable that holds the settings."""

KEY = "IXC_API_KEY"
"""The environment variable of the API key; apart from the settings, because those may be printed."""


def settings_text(
    limits: Limits, *, fetch_from: tuple[str, ...], hosts: tuple[str, ...], origins: tuple[str, ...] = ()
) -> str:
    """Return the value of the environment variable `SETTINGS`."""
    return json.dumps({"limits": asdict(limits), "fetch_from": fetch_from, "hosts": hosts, "origins": origins})
