"""Ids of the prompt of a conversation that vLLM has parsed; they equal the light server's (spec i).

    add_generation_prompt, continue_final_message    vLLM's own: the assistant's header, or an answer to continue
    chat_template_kwargs                             published, assistant, images_in_place: see `PromptFormat`

Other template options belong to other models and change nothing here. vLLM is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

from pydantic import ValidationError

from ixc.core import chat_format
from ixc.core.prompt_format import PromptFormat, prompt_segments
from ixc.errors import UsageError
from ixc.processing.prompt_encoding import PromptEncoder
from ixc.serving.openai import ROLES, read_prompt_format
from ixc.serving.schema import TemplateOptions

TEMPLATE = tuple(TemplateOptions.model_fields)
"""Options that a request may set in chat_template_kwargs."""


def ids(
    encoder: PromptEncoder, conversation: Sequence[Mapping[str, Any]], options: Mapping[str, Any], *, system: str
) -> list[int]:
    """Return the ids of a prompt, with one placeholder per image.

    Args:
        conversation: vLLM's messages, each content a string or a list of parts of type text or image.
        options: vLLM's options of a template.
        system: the system text of a conversation that brings none.

    Raises:
        IxcError: a role, a part or an option that this model does not have.
    """
    messages = [_message(message) for message in conversation]
    prompt_format = _prompt_format(options)
    if prompt_format.published or prompt_format.images_in_place:
        segments = prompt_segments(messages, prompt_format, system=system, rules=encoder.rules)
    else:
        header = options.get("add_generation_prompt", True)
        segments = chat_format.render(
            encoder.arrange(messages),
            system=system,
            add_generation_prompt=header,
            continue_final_message=prompt_format.continue_final_message,
        )
    return encoder.row(segments, counts=repeat(1), bos=True, bos_once=prompt_format.published).ids


def _prompt_format(options: Mapping[str, Any]) -> PromptFormat:
    given = {name: options[name] for name in TEMPLATE if options.get(name) is not None}
    try:
        return read_prompt_format(
            TemplateOptions(**given), continue_final_message=bool(options.get("continue_final_message"))
        )
    except ValidationError as error:
        name, why = error.errors()[0]["loc"][0], error.errors()[0]["msg"]
        raise UsageError(f"chat_template_kwargs.{name}: {why.lower()}") from None


def _message(message: Mapping[str, Any]) -> chat_format.Message:
    role = ROLES.get(str(message["role"]))
    if role is None:
        raise UsageError(f"unknown role {str(message['role'])[:20]!r}; use one of {', '.join(ROLES)}")
    content = message.get("content") or []
    parts = [content] if isinstance(content, str) else content
    return chat_format.Message(role, tuple(_part(part) for part in parts))  # type: ignore[arg-type]


def _part(part: Any) -> str | chat_format.Image:
    if isinstance(part, str):
        return part
    if part["type"] == "image":
        return chat_format.Image()
    if part["type"] == "text":
        return part["text"]
    raise UsageError(f"unknown part {str(part['type'])[:20]!r} of a message; use text or image_url")
