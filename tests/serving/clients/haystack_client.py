"""The calls through haystack-ai's chat generator."""

from calls import FIRST_QUESTION, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SCHEMA, SYSTEM, TOOL, URL, encoded, run
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, FileContent, ImageContent
from haystack.tools import Tool
from haystack.utils import Secret


def ask(*messages, **settings):
    """Return the message of an answer."""
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token(KEY), model=MODEL, api_base_url=URL, max_retries=0, **settings
    )
    return generator.run(list(messages))["replies"][0]


def image(path=PNG):
    """Return an image as a part of a message."""
    return ImageContent(base64_image=encoded(path), mime_type="image/png", validation=False)


def user(*parts):
    """Return a message of the user."""
    return ChatMessage.from_user(content_parts=list(parts))


def stream():
    """Return the joined pieces of a stream."""
    pieces = []
    ask(user(image(), QUESTION), streaming_callback=lambda chunk: pieces.append(chunk.content))
    return "".join(pieces)


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = user(image(), FIRST_QUESTION)
    return ask(first, ask(first), user(QUESTION)).text


def structured():
    """Return the field of an answer in JSON."""
    import json

    schema = {"type": "json_schema", "json_schema": {"name": "receipt", "schema": SCHEMA, "strict": True}}
    return json.loads(ask(user(image(), QUESTION), generation_kwargs={"response_format": schema}).text)["total"]


def tools():
    """Return the argument of a forced call."""
    tool = Tool(**TOOL, function=lambda total: total)
    choice = {"tool_choice": {"type": "function", "function": {"name": TOOL["name"]}}}
    return ask(user(image(), QUESTION), tools=[tool], generation_kwargs=choice).tool_calls[0].arguments["total"]


run(
    {
        "call": lambda: ask(user(image(), QUESTION)).text,
        "stream": stream,
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": lambda: ask(user(FileContent(base64_data=encoded(PDF), mime_type="application/pdf"), QUESTION)).text,
        "text first, system": lambda: ask(ChatMessage.from_system(SYSTEM), user(QUESTION, image())).text,
        "error": lambda: ask(user(image(NO_IMAGE), QUESTION)).text,
    }
)
