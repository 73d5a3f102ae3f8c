"""The calls through instructor: every answer is an object; its plain and forced modes are asked both."""

import instructor
from calls import (
    FIRST_QUESTION,
    KEY,
    MODEL,
    NO_IMAGE,
    PDF,
    PNG,
    QUESTION,
    URL,
    image_part,
    run,
    system,
    text_part,
    user,
)
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel


class Receipt(BaseModel):
    """The schema of one field."""

    total: str


class Dated(BaseModel):
    """The schema of the first question."""

    date: str


def client(mode=Mode.TOOLS):
    """Return a client of one mode."""
    return instructor.from_openai(OpenAI(base_url=URL, api_key=KEY, max_retries=0), mode=mode)


def ask(*messages, mode=Mode.TOOLS, model=Receipt):
    """Return an object."""
    return client(mode).chat.completions.create(
        model=MODEL, messages=list(messages), response_model=model, max_retries=1
    )


def stream():
    """Return the field of the last partial object."""
    parts = client().chat.completions.create_partial(
        model=MODEL, messages=[user(image_part(), text_part())], response_model=Receipt, max_retries=1
    )
    return list(parts)[-1].total


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = user(image_part(), text_part(FIRST_QUESTION))
    answer = ask(first, model=Dated).date
    return ask(first, {"role": "assistant", "content": answer}, user(text_part())).total


def pdf():
    """Return the answer about the PDF, by the client's own class for it."""
    from instructor.processing.multimodal import PDF as File

    return ask({"role": "user", "content": [File.from_path(PDF), QUESTION]}).total


def own_image(path=PNG):
    """Return an image by the client's own class for it."""
    from instructor.processing.multimodal import Image

    return Image.from_path(path)


run(
    {
        "call": lambda: ask({"role": "user", "content": [own_image(), QUESTION]}).total,
        "stream": stream,
        "second turn": second_turn,
        "structured": lambda: ask(user(image_part(), text_part()), mode=Mode.JSON_SCHEMA).total,
        "tools": lambda: ask(user(image_part(), text_part())).total,
        "PDF": pdf,
        "text first, system": lambda: ask(system(), user(text_part(), image_part())).total,
        "error": lambda: ask(user(image_part(NO_IMAGE), text_part())).total,
    }
)
