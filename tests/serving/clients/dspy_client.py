"""The calls through DSPy: its language model for text, its JSON adapter for structured output.

`Predict` wraps every question in a template of several fields; the calls of text are made below it.
"""

import json

import dspy
from calls import (
    FIRST_QUESTION,
    KEY,
    MODEL,
    NO_IMAGE,
    PDF,
    PNG,
    QUESTION,
    TOOL,
    URL,
    data_url,
    run,
    system,
    text_part,
    user,
)


class DeclaredLM(dspy.LM):
    """A language model that says it takes schemas: DSPy 3.4.0 sends none for a model that its catalogue lacks."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})


lm = DeclaredLM(f"openai/{MODEL}", api_base=URL, api_key=KEY, cache=False, num_retries=0)


def parts_of(*values):
    """Return a message of the user; DSPy's own types write their parts."""
    parts = []
    for value in values:
        parts += [text_part(value)] if isinstance(value, str) else value.format()
    return user(*parts)


def ask(*messages, **settings):
    """Return the first output, a text or a dictionary with the calls of tools."""
    return lm(messages=list(messages), **settings)[0]


def image():
    """Return an image in DSPy's own type."""
    return dspy.Image.from_path(str(PNG))


class Question(dspy.Signature):
    """Answer the question about the image."""

    image: dspy.Image = dspy.InputField()
    question: str = dspy.InputField()
    total: str = dspy.OutputField()


def predict(adapter):
    """Return the field that `Predict` gives."""
    with dspy.context(lm=lm, adapter=adapter):
        return dspy.Predict(Question)(image=image(), question=QUESTION).total


def stream():
    """Return the joined pieces of a stream of `Predict`."""
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        listener = dspy.streaming.StreamListener(signature_field_name="total")
        program = dspy.streamify(dspy.Predict(Question), stream_listeners=[listener], async_streaming=False)
        pieces = list(program(image=image(), question=QUESTION))
    return "".join(piece.chunk for piece in pieces if isinstance(piece, dspy.streaming.StreamResponse))


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = parts_of(image(), FIRST_QUESTION)
    return ask(first, {"role": "assistant", "content": ask(first)}, parts_of(QUESTION))


def tools():
    """Return the argument of a forced call."""
    choice = {"type": "function", "function": {"name": TOOL["name"]}}
    found = ask(parts_of(image(), QUESTION), tools=[{"type": "function", "function": TOOL}], tool_choice=choice)
    return json.loads(found["tool_calls"][0].function.arguments)["total"]


run(
    {
        "call": lambda: ask(parts_of(image(), QUESTION)),
        "stream": stream,
        "second turn": second_turn,
        "structured": lambda: predict(dspy.JSONAdapter()),
        "tools": tools,
        "PDF": lambda: ask(parts_of(dspy.File.from_path(str(PDF)), QUESTION)),
        "text first, system": lambda: ask(system(), parts_of(QUESTION, image())),
        "error": lambda: ask(parts_of(dspy.Image(data_url(NO_IMAGE)), QUESTION)),
    }
)
