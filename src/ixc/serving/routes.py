"""Addresses: which exist, and what to say about one that does not."""

from __future__ import annotations

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
API = (CHAT, RESPONSES, "/v1/models")
"""Routes of OpenAI's API."""


def hint(path: str, routes: tuple[str, ...] = API) -> str:
    """Return what a client that asked for an unknown path should ask for instead.

    Args:
        path: as it was asked for.
        routes: those of the API that exist.
    """
    parts = [part for part in path.split("/") if part]
    while parts and parts[0] == "v1":
        parts = parts[1:]
    wanted = "/v1/" + "/".join(parts)
    found = next((route for route in routes if wanted == route or wanted.startswith(f"{route}/")), None)
    if found == RESPONSES and len(parts) > 1:
        return "no response is stored here; take it from the answer to POST /v1/responses"
    if found is not None:
        return f"the address is {found}; the client's base URL ends in /v1, once"
    if wanted == "/v1/completions":
        return f"there are no completions of a bare prompt; send messages to {CHAT}"
    return f"there are {', '.join(routes)}" + ("; / says what else is served here" if routes == API else "")
