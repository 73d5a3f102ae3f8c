"""The calls through docling-slim's request for one image, which its remote models make for every page."""

import json

from calls import MODEL, PNG, QUESTION, SCHEMA, TOOL, URL, cannot, run
from docling.utils.api_image_request import api_image_request, api_image_request_streaming
from PIL import Image

SETTINGS = {
    "image": Image.open(PNG),
    "prompt": QUESTION,
    "url": f"{URL}/chat/completions",
    "model": MODEL,
    "timeout": 120,  # seconds; 20 unless it is set
}


def ask(**settings):
    """Return the text of an answer; the client returns errors and raises none."""
    return text(api_image_request(**SETTINGS, **settings))


def text(found):
    """Return the text of a result."""
    if found.error:
        raise RuntimeError(found.error)
    return found.text


def structured():
    """Return the field of an answer in JSON."""
    schema = {"type": "json_schema", "json_schema": {"name": "receipt", "schema": SCHEMA, "strict": True}}
    return json.loads(ask(response_format=schema))["total"]


def tools():
    """Return what the client makes of a forced call: it takes the arguments of the name `text` and no others."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    choice = {"type": "function", "function": {"name": TOOL["name"]}}
    return ask(tools=[{"type": "function", "function": {**TOOL, "parameters": schema}}], tool_choice=choice)


run(
    {
        "call": ask,
        "stream": lambda: text(api_image_request_streaming(**SETTINGS)),
        "second turn": cannot("sends one image and one prompt, without a history"),
        "structured": structured,
        "tools": tools,
        "PDF": cannot("draws the pages of a PDF itself and sends images"),
        "text first, system": cannot("writes the image first, without a system message"),
        "error": cannot("opens the image itself, so a broken one is not sent"),
    }
)
