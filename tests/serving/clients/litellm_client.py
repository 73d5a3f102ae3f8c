"""The calls through LiteLLM."""

import json

import litellm
from calls import (
    FIRST_QUESTION,
    KEY,
    MODEL,
    NO_IMAGE,
    SCHEMA,
    TOOL,
    URL,
    file_part,
    image_part,
    run,
    system,
    text_part,
    user,
)

litellm.suppress_debug_info = True


def ask(*messages, **fields):
    """Return an answer."""
    return litellm.completion(
        model=f"openai/{MODEL}", api_base=URL, api_key=KEY, messages=list(messages), num_retries=0, **fields
    )


def text(*messages, **fields):
    """Return the text of an answer."""
    return ask(*messages, **fields).choices[0].message.content


def stream():
    """Return the joined pieces of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in ask(user(image_part(), text_part()), stream=True))


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = user(image_part(), text_part(FIRST_QUESTION))
    return text(first, {"role": "assistant", "content": text(first)}, user(text_part()))


def structured():
    """Return the field of an answer in JSON."""
    schema = {"type": "json_schema", "json_schema": {"name": "receipt", "schema": SCHEMA, "strict": True}}
    return json.loads(text(user(image_part(), text_part()), response_format=schema))["total"]


def tools():
    """Return the argument of a forced call."""
    choice = {"type": "function", "function": {"name": TOOL["name"]}}
    found = ask(user(image_part(), text_part()), tools=[{"type": "function", "function": TOOL}], tool_choice=choice)
    return json.loads(found.choices[0].message.tool_calls[0].function.arguments)["total"]


run(
    {
        "call": lambda: text(user(image_part(), text_part())),
        "stream": stream,
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": lambda: text(user(file_part(), text_part())),
        "text first, system": lambda: text(system(), user(text_part(), image_part())),
        "error": lambda: text(user(image_part(NO_IMAGE), text_part())),
    }
)
