"""A model behind an OpenAI-compatible server (vLLM and others): questions in, answers out.

    Question --messages--> POST URL/chat/completions, several at once --> choices[0].message.content

The client is `utils/chat_client.py`. Besides OpenAI's fields a task needs these, under vLLM's names:

    mm_processor_kwargs                     {"hd": ...}, the HD of its images
    use_beam_search, n                      beam search; the answer is the first choice
    add_generation_prompt: false,
    continue_final_message: true            a primed answer, which the model continues
    chat_template_kwargs                    {"published": true}: images before the first turn and no default system
                                            message; {"images_in_place": true}: MMMU's images at their tags; ignored by
                                            a chat template that does not know it

`ixc serve` accepts all of them, and its answers equal those of the local model. vLLM 0.32 divides a beam's score by the
length of prompt and answer, the local model by that of the answer, so beam search may give other answers there.

A server adds the special tokens itself: it is sent the turns of a question and its prompt format. Runs of spaces in a
text are kept, and those in the header of the assistant's turn are sent separately.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ixc.core.chat_format import Image, Message
from ixc.core.prompt_format import CHAT_FORMAT
from ixc.errors import IxcError, UnreachableError, UsageError
from ixc.processing.image_formats import HEAD_BYTES, format_of
from ixc.utils.chat_client import Endpoint, complete, connect

if TYPE_CHECKING:
    from ixc.evals.question import Question

__all__ = ["Endpoint", "answer", "answers", "complete", "connect", "messages"]


def answers(endpoint: Endpoint, questions: Sequence[Question]) -> list[str | IxcError]:
    """Return for every question the model's answer, or the error that names it.

    Once the server is unreachable, the questions not yet sent get that error too, without waiting for it again.
    """
    gone: list[UnreachableError] = []

    def ask(question: Question) -> str | IxcError:
        name = f"question {question.index}"
        if gone:
            return UnreachableError(f"{name}: not asked, as {gone[0]}")
        try:
            return answer(endpoint, question)
        except UnreachableError as error:
            gone.append(error)
            return UnreachableError(f"{name}: {error}")
        except IxcError as error:
            return type(error)(f"{name}: {error}")

    with ThreadPoolExecutor(endpoint.parallel) as pool:
        return list(pool.map(ask, questions))


def answer(endpoint: Endpoint, question: Question) -> str:
    """Return one answer.

    Raises:
        EndpointError: the server refuses or does not answer. UsageError: a published prompt with `openai_only`.
    """
    turns, primed, template = messages(question)
    body: dict[str, Any] = {"max_tokens": question.max_new_tokens, "temperature": 0}
    if endpoint.openai_only:
        if primed:
            raise UsageError("such a server begins its answers itself; use --prompts clean, or leave out --openai-only")
        return complete(endpoint, turns, body)
    if question.images:
        body["mm_processor_kwargs"] = {"hd": question.hd}
    if question.num_beams > 1:
        body |= {"use_beam_search": True, "n": question.num_beams}
    if primed:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if template:
        body["chat_template_kwargs"] = template
    return complete(endpoint, turns, body)


# -- questions -> messages --------------------------------------------------------------------------------------------


def messages(question: Question) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
    """Return the turns of a question as a request holds them.

    Returns:
        (messages, whether the last one is a primed answer, `chat_template_kwargs` of its prompt format).
    """
    chosen = question.prompt_format
    template: dict[str, Any] = {"published": True} if chosen.published else {}
    if chosen.assistant != CHAT_FORMAT.assistant:
        template["assistant"] = chosen.assistant
    if chosen.images_in_place:
        template["images_in_place"] = True
    found = [{"role": turn.role, "content": _content(turn, question)} for turn in question.messages]
    return found, chosen.continue_final_message, template


def _content(turn: Message, question: Question) -> str | list[dict[str, Any]]:
    """Return a text, or parts in their order where there are images."""
    if all(isinstance(part, str) for part in turn.content):
        return "".join(map(str, turn.content))
    return [
        _image_part(question.images[part.source]) if isinstance(part, Image) else {"type": "text", "text": part}
        for part in turn.content
    ]


def _image_part(image: bytes) -> dict[str, Any]:
    found = format_of(image[:HEAD_BYTES])
    mime = "image/png" if found is None else found.mime  # of another kind the server looks at the content
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{mime};base64,{base64.b64encode(image).decode()}"},
    }
