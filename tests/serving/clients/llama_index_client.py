"""The calls through llama-index-llms-openai-like."""

from calls import FIRST_QUESTION, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SYSTEM, URL, run
from llama_index.core.llms import ChatMessage, DocumentBlock, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Receipt(BaseModel):
    """The schema of one field."""

    total: str


def model(**settings):
    """Return the client's model."""
    return OpenAILike(model=MODEL, api_base=URL, api_key=KEY, is_chat_model=True, max_retries=0, **settings)


def image(path=PNG):
    """Return an image as a block."""
    return ImageBlock(image=path.read_bytes(), image_mimetype="image/png")


def message(*blocks, role="user"):
    """Return a message; a string is a text."""
    return ChatMessage(role=role, blocks=[TextBlock(text=each) if isinstance(each, str) else each for each in blocks])


def ask(*messages):
    """Return the message of an answer."""
    return model().chat(list(messages)).message


def second_turn():
    """Return the answer to a second question in one conversation."""
    first = message(image(), FIRST_QUESTION)
    return ask(first, ask(first), message(QUESTION)).content


def structured():
    """Return the field of a typed answer."""
    typed = model(should_use_structured_outputs=True).as_structured_llm(Receipt)
    return typed.chat([message(image(), QUESTION)]).raw.total


def book(total: str) -> str:
    """Book the total of a receipt."""
    return total


def tools():
    """Return the argument of a forced call."""
    caller = model(is_function_calling_model=True)
    tool = FunctionTool.from_defaults(book)
    found = caller.chat_with_tools(
        [tool], chat_history=[message(image(), QUESTION)], tool_choice="book", tool_required=True
    )
    return caller.get_tool_calls_from_response(found)[0].tool_kwargs["total"]


def pdf():
    """Return the answer about the PDF."""
    return ask(message(DocumentBlock(data=PDF.read_bytes(), document_mimetype="application/pdf"), QUESTION)).content


run(
    {
        "call": lambda: ask(message(image(), QUESTION)).content,
        "stream": lambda: "".join(piece.delta or "" for piece in model().stream_chat([message(image(), QUESTION)])),
        "second turn": second_turn,
        "structured": structured,
        "tools": tools,
        "PDF": pdf,
        "text first, system": lambda: ask(message(SYSTEM, role="system"), message(QUESTION, image())).content,
        "error": lambda: ask(message(image(NO_IMAGE), QUESTION)).content,
    }
)
