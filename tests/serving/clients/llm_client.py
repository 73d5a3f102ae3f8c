"""The calls through llm, whose command line and Python API send the text before the attachment."""

import os
from pathlib import Path

from calls import FIRST_QUESTION, FOLDER, KEY, MODEL, NO_IMAGE, PDF, PNG, QUESTION, SCHEMA, SYSTEM, URL, run

home = Path(FOLDER) / "llm"
home.mkdir(exist_ok=True)
os.environ["LLM_USER_PATH"] = str(home)
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {URL}\n  api_key_name: ours\n  vision: true\n"
    "  supports_schema: true\n  supports_tools: true\n"
)

import json  # noqa: E402

import llm  # noqa: E402

model = llm.get_model("ours")
model.key = KEY


def file(path=PNG):
    """Return an attachment."""
    return [llm.Attachment(path=str(path))]


def second_turn():
    """Return the answer to a second question in one conversation."""
    conversation = model.conversation()
    conversation.prompt(FIRST_QUESTION, attachments=file(), stream=False).text()
    return conversation.prompt(QUESTION, stream=False).text()


def tools():
    """llm has no way to force a call."""
    from calls import Cannot

    raise Cannot("has no forced call")


run(
    {
        "call": lambda: model.prompt(QUESTION, attachments=file(), stream=False).text(),
        "stream": lambda: "".join(model.prompt(QUESTION, attachments=file(), stream=True)),
        "second turn": second_turn,
        "structured": lambda: json.loads(
            model.prompt(QUESTION, attachments=file(), schema=SCHEMA, stream=False).text()
        )["total"],
        "tools": tools,
        "PDF": lambda: model.prompt(QUESTION, attachments=file(PDF), stream=False).text(),
        "text first, system": lambda: model.prompt(QUESTION, attachments=file(), system=SYSTEM, stream=False).text(),
        "error": lambda: model.prompt(QUESTION, attachments=file(NO_IMAGE), stream=False).text(),
    }
)
