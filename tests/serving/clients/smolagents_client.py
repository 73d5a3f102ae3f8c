"""The calls through smolagents' model class; its agents write the text before the image."""

import json

from calls import (
    FIRST_QUESTION,
    KEY,
    MODEL,
    NO_IMAGE,
    PNG,
    QUESTION,
    SCHEMA,
    SYSTEM,
    TOOL,
    URL,
    file_part,
    image_part,
    run,
    text_part,
)
from PIL import Image
from smolagents import OpenAIModel, tool

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY, client_kwargs={"max_retries": 0}, retry=False)
IMAGE = {"type": "image", "image": Image.open(PNG)}


@tool
def book(total: str) -> str:
    """Book the total of a receipt.

    Args:
        total: the total.
    """
    return total


def message(*parts, role="user"):
    """Return a message; the client changes the parts it is given, so they are copied."""
    return {"role": role, "content": [dict(part) for part in parts]}


def ask(*messages, **settings):
    """Return the message of an answer."""
    return model.generate(list(messages), **settings)


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = message(IMAGE, text_part(FIRST_QUESTION))
    answer = ask(message(IMAGE, text_part(FIRST_QUESTION))).content
    return ask(first, message(text_part(answer), role="assistant"), message(text_part())).content


def structured():
    """Return the field of an answer in JSON."""
    schema = {"type": "json_schema", "json_schema": {"name": "receipt", "schema": SCHEMA, "strict": True}}
    return json.loads(ask(message(IMAGE, text_part()), response_format=schema).content)["total"]


def tools():
    """Return the argument of a forced call."""
    call = ask(message(IMAGE, text_part()), tools_to_call_from=[book]).tool_calls[0].function
    assert call.name == TOOL["name"]
    return (json.loads(call.arguments) if isinstance(call.arguments, str) else call.arguments)["total"]


run(
    {
        "call": lambda: ask(message(IMAGE, text_part())).content,
        "stream": lambda: "".join(
            delta.content or "" for delta in model.generate_stream([message(IMAGE, text_part(QUESTION))])
        ),
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": lambda: ask(message(file_part(), text_part())).content,
        "text first, system": lambda: (
            ask(message(text_part(SYSTEM), role="system"), message(text_part(), IMAGE)).content
        ),
        "error": lambda: ask(message(image_part(NO_IMAGE), text_part())).content,
    }
)
