"""The calls through the responses API of openai (Python)."""

import json

from calls import FIRST_QUESTION, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SYSTEM, TOOL, URL, data_url, run
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)


class Receipt(BaseModel):
    """The schema of one field."""

    total: str


def image(path=PNG):
    """Return an image as a part of a message."""
    return {"type": "input_image", "image_url": data_url(path), "detail": "auto"}


def user(*parts):
    """Return a message of the user; a string is a text."""
    parts = [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": parts}


def ask(*messages, **fields):
    """Return a response."""
    return client.responses.create(model=MODEL, input=list(messages), **fields)


def second_turn():
    """Return the answer to a second question, with the first response's output sent back."""
    first = user(image(), FIRST_QUESTION)
    return ask(first, *ask(first).output, user(QUESTION)).output_text


def stream():
    """Return the joined pieces of a stream."""
    events = ask(user(image(), QUESTION), stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def structured():
    """Return the field of a parsed answer."""
    found = client.responses.parse(model=MODEL, input=[user(image(), QUESTION)], text_format=Receipt)
    return found.output_parsed.total


def tools():
    """Return the argument of a forced call."""
    choice = {"type": "function", "name": TOOL["name"]}
    found = ask(user(image(), QUESTION), tools=[{"type": "function", "strict": True, **TOOL}], tool_choice=choice)
    return json.loads(next(item for item in found.output if item.type == "function_call").arguments)["total"]


run(
    {
        "call": lambda: ask(user(image(), QUESTION)).output_text,
        "stream": stream,
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": lambda: (
            ask(user({"type": "input_file", "filename": PDF.name, "file_data": data_url(PDF)}, QUESTION)).output_text
        ),
        "text first, system": lambda: ask(user(QUESTION, image()), instructions=SYSTEM).output_text,
        "error": lambda: ask(user(image(NO_IMAGE), QUESTION)).output_text,
    }
)
