"""The calls through pydantic-ai with its chat model, or with its responses model where a fourth argument says so."""

import sys

from calls import FIRST_QUESTION, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SYSTEM, URL, run
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

Model = OpenAIResponsesModel if "responses" in sys.argv else OpenAIChatModel
model = Model(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))
agent = Agent(model, retries=0)


class Receipt(BaseModel):
    """The schema of one field."""

    total: str


def file(path=PNG, kind="image/png"):
    """Return a file as a part of a prompt."""
    return BinaryContent(data=path.read_bytes(), media_type=kind)


def stream():
    """Return the joined pieces of a stream."""
    result = agent.run_stream_sync([file(), QUESTION])
    return "".join(result.stream_text(delta=True))


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = agent.run_sync([file(), FIRST_QUESTION])
    return agent.run_sync(QUESTION, message_history=first.all_messages()).output


def typed(output):
    """Return the field of a typed output."""
    return Agent(model, output_type=output, retries=0).run_sync([file(), QUESTION]).output.total


run(
    {
        "call": lambda: agent.run_sync([file(), QUESTION]).output,
        "stream": stream,
        "second turn": second_turn,
        "structured": lambda: typed(NativeOutput(Receipt)),
        "tools": lambda: typed(ToolOutput(Receipt)),
        "PDF": lambda: agent.run_sync([file(PDF, "application/pdf"), QUESTION]).output,
        "text first, system": lambda: Agent(model, system_prompt=SYSTEM, retries=0).run_sync([QUESTION, file()]).output,
        "error": lambda: agent.run_sync([file(NO_IMAGE), QUESTION]).output,
    }
)
