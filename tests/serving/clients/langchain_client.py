"""The calls through langchain-openai, with its own content blocks for images and files."""

from calls import FIRST_QUESTION, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SCHEMA, SYSTEM, TOOL, URL, encoded, run
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY, max_retries=0)
TEXT = {"type": "text", "text": QUESTION}
FILE = {"type": "file", "base64": encoded(PDF), "mime_type": "application/pdf", "filename": PDF.name}


def image(path=PNG):
    """Return an image as a content block."""
    return {"type": "image", "base64": encoded(path), "mime_type": "image/png"}


def human(*parts):
    """Return a message of the user."""
    return HumanMessage(content=list(parts))


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = human(image(), {"type": "text", "text": FIRST_QUESTION})
    return model.invoke([first, model.invoke([first]), human(TEXT)]).content


def tools():
    """Return the argument of a forced call."""
    bound = model.bind_tools([{"type": "function", "function": TOOL}], tool_choice=TOOL["name"])
    return bound.invoke([human(image(), TEXT)]).tool_calls[0]["args"]["total"]


run(
    {
        "call": lambda: model.invoke([human(image(), TEXT)]).content,
        "stream": lambda: "".join(chunk.content for chunk in model.stream([human(image(), TEXT)])),
        "second turn": second_turn,
        "structured": lambda: model.with_structured_output({"title": "Receipt", **SCHEMA}).invoke(
            [human(image(), TEXT)]
        )["total"],
        "tools": tools,
        "PDF": lambda: model.invoke([human(FILE, TEXT)]).content,
        "text first, system": lambda: model.invoke([SystemMessage(SYSTEM), human(TEXT, image())]).content,
        "error": lambda: model.invoke([human(image(NO_IMAGE), TEXT)]).content,
    }
)
