"""The calls through openai (Python), chat completions and responses."""

import json

from calls import (
    FIRST_QUESTION,
    KEY,
    MODEL,
    NO_IMAGE,
    TOOL,
    URL,
    file_part,
    image_part,
    run,
    system,
    text_part,
    user,
)
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)


class Receipt(BaseModel):
    """The schema of one field."""

    total: str


def ask(*messages, **fields):
    """Return the message of an answer."""
    return client.chat.completions.create(model=MODEL, messages=list(messages), **fields).choices[0].message


def stream():
    """Return the joined pieces of a stream."""
    chunks = client.chat.completions.create(model=MODEL, messages=[user(image_part(), text_part())], stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = user(image_part(), text_part(FIRST_QUESTION))
    answer = ask(first).content
    return ask(first, {"role": "assistant", "content": answer}, user(text_part())).content


def structured():
    """Return the field of a parsed answer."""
    messages = [user(image_part(), text_part())]
    found = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Receipt)
    return found.choices[0].message.parsed.total


def tools():
    """Return the argument of a forced call."""
    choice = {"type": "function", "function": {"name": TOOL["name"]}}
    tool = {"type": "function", "function": TOOL}
    message = ask(user(image_part(), text_part()), tools=[tool], tool_choice=choice)
    return json.loads(message.tool_calls[0].function.arguments)["total"]


run(
    {
        "call": lambda: ask(user(image_part(), text_part())).content,
        "stream": stream,
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": lambda: ask(user(file_part(), text_part())).content,
        "text first, system": lambda: ask(system(), user(text_part(), image_part())).content,
        "error": lambda: ask(user(image_part(NO_IMAGE), text_part())).content,
    }
)
