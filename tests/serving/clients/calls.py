"""What every Python client is asked, and how its answers are printed: `python CLIENT.py URL MODEL FOLDER`.

FOLDER holds `receipt.png`, `receipt.pdf` and `no_image.png`; dev/clients.py writes them. Printed is one line of JSON:
call -> `{"value": text}`, `{"raised": text}` or `{"cannot": reason}`. Only the standard library is needed here.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL, MODEL, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
KEY = "none"
QUESTION, FIRST_QUESTION = "What is the TOTAL?", "What is the Tax?"
SYSTEM = "You are a careful assistant. Answer with the value alone."
PNG, PDF, NO_IMAGE = (FOLDER / name for name in ("receipt.png", "receipt.pdf", "no_image.png"))
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "string"}},
    "required": ["total"],
    "additionalProperties": False,
}
TOOL = {"name": "book", "description": "Book the total of a receipt.", "parameters": SCHEMA}


class Cannot(Exception):
    """The client has no way to make this call."""


def cannot(reason: str) -> Callable[[], str]:
    """Return a call that the client has no way to make."""

    def call() -> str:
        raise Cannot(reason)

    return call


def data_url(path: Path) -> str:
    """Return a file as a data URL."""
    kind = "application/pdf" if path.suffix == ".pdf" else "image/png"
    return f"data:{kind};base64,{encoded(path)}"


def encoded(path: Path) -> str:
    """Return a file in base64."""
    return base64.b64encode(path.read_bytes()).decode()


def image_part(path: Path = PNG) -> dict[str, Any]:
    """Return an image as a part of a message in OpenAI's form."""
    return {"type": "image_url", "image_url": {"url": data_url(path)}}


def file_part() -> dict[str, Any]:
    """Return the PDF as a part of a message in OpenAI's form."""
    return {"type": "file", "file": {"filename": PDF.name, "file_data": data_url(PDF)}}


def text_part(text: str = QUESTION) -> dict[str, Any]:
    """Return a text as a part of a message in OpenAI's form."""
    return {"type": "text", "text": text}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the user in OpenAI's form."""
    return {"role": "user", "content": list(parts)}


def system() -> dict[str, Any]:
    """Return the system message in OpenAI's form."""
    return {"role": "system", "content": SYSTEM}


def run(calls: dict[str, Callable[[], Any]]) -> None:
    """Make all calls and print what they gave; one that fails does not end the others."""
    print(json.dumps({name: _outcome(call) for name, call in calls.items()}))


def _outcome(call: Callable[[], Any]) -> dict[str, str]:
    """Return what a call gave."""
    try:
        return {"value": str(call())}
    except Cannot as reason:
        return {"cannot": str(reason)}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}
