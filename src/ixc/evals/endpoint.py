"""A model behind an OpenAI-compatible server (vLLM and others): questions in, answers out.

    Question --messages--> POST URL/chat/completions, several at once --> choices[0].message.content

The client is the `openai` SDK, which retries while the server is busy and follows its Retry-After. Besides OpenAI's
fields a task needs these, under vLLM's names:

    mm_processor_kwargs                     {"hd": ...}, the HD of its images
    use_beam_search, n                      beam search; the answer is the first choice
    add_generation_prompt: false,
    continue_final_message: true            a primed answer, which the model continues
    chat_template_kwargs                    {"published": true}: images before the first turn and no default system
                                            message; ignored by a chat template that does not know it

`ixc serve` accepts all of them, and its answers equal those of the local model. vLLM 0.32 divides a beam's score by the
length of prompt and answer, the local model by that of the answer, so beam search may give other answers there.

A server adds the special tokens itself, so a published prompt is split into its turns; runs of spaces in its text are
kept, and those in the header of the assistant's turn are sent separately.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ixc.core.chat_format import IMAGE_PLACEHOLDER, TURN_END, TURN_START
from ixc.errors import EndpointError, IxcError, MissingPackageError, UnreachableError, UsageError
from ixc.processing.image_formats import HEAD_BYTES, format_of

if TYPE_CHECKING:
    from openai import OpenAI

    from ixc.evals.question import Question

BUSY = (408, 409, 429)
"""Status codes below 500 that the SDK retries; it retries all from 500 on."""

REFUSED_FOR_ALL = (401, 403, 404)
"""Status codes that any request would get: a missing key, no such address or model."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server and one of its models."""

    url: str
    """Base URL: ends in /v1, or wherever `chat/completions` is found below."""
    model: str
    """Served name of the model."""
    key: str | None = field(default=None, repr=False)
    """Bearer token; None sends none."""
    openai_only: bool = False
    """Send OpenAI's fields only: the server's own HD, greedy decoding, no primed answers."""
    parallel: int = 8
    """Concurrent requests, >= 1."""
    timeout: float = 600.0
    """Longest time for one request, seconds."""
    attempts: int = 6
    """Attempts per request while the server is busy or unreachable, >= 1. The SDK waits 0.5, 1, 2, ... 8 seconds
    between them, or as long as Retry-After says (up to two minutes)."""


def connect(url: str, *, model: str | None = None, **options: Any) -> Endpoint:
    """Return an endpoint that has answered a request.

    Args:
        url: "http://host:8000" or "http://host:8000/v1".
        model: a served name; None = the first that the server lists.
        options: other fields of `Endpoint`.

    Raises:
        UsageError: no address, no such model, or openai is not installed. EndpointError: no answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{url!r} is no address of a server; use http://localhost:8000/v1")
    base = url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
    endpoint = Endpoint(url=base, model=model or "", **options)
    if endpoint.parallel < 1 or endpoint.attempts < 1:
        raise UsageError(
            f"{endpoint.parallel} requests at once in {endpoint.attempts} attempts; both must be at least 1"
        )
    names = _models(endpoint)
    if model is None and not names:
        raise EndpointError(f"{base}/models lists 0 models; name one with --model")
    if model is not None and names and model not in names:
        raise UsageError(f"{base} serves {', '.join(names)}, not {model!r}; name one of them with --model")
    return endpoint if model else Endpoint(url=base, model=names[0], **options)


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


def complete(endpoint: Endpoint, turns: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str:
    """Return the text of the first choice.

    Args:
        endpoint: server and model.
        turns: messages of the request.
        body: its other fields, including those that are not OpenAI's.

    Raises:
        EndpointError: no answer, or none of the expected form.
    """
    client = _client(endpoint)
    with _clear_errors(endpoint, "chat/completions"):
        # `post`, because the typed method would refuse fields that it does not know
        found = client.post(
            "/chat/completions",
            body={"model": endpoint.model, "messages": turns, **body},
            cast_to=object,
            options=_options(endpoint),
        )
    try:
        text = found["choices"][0]["message"]["content"]  # pyright: ignore[reportIndexIssue] - checked by the except
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise EndpointError(f"{endpoint.url} gave no text ({str(found)[:120]}); is it OpenAI-compatible?")
    return text


# -- questions -> messages --------------------------------------------------------------------------------------------


def messages(question: Question) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
    """Convert a question to messages, with the images before the first user's text.

    Returns:
        (messages, whether the last one is a primed answer, `chat_template_kwargs` of a published prompt).
    """
    turns = _turns(question.text) if question.raw else [("user", question.text)]
    template: dict[str, Any] = {"published": True} if question.raw else {}
    role, primed = turns[-1]
    if role.strip() == "assistant" and not primed:
        turns.pop()
        template |= {"assistant": role} if role != "assistant" else {}
    pictures = [_image_part(image) for image in question.images]
    found: list[dict[str, Any]] = []
    for name, text in turns:
        if name == "user" and pictures:
            found.append({"role": name, "content": [*pictures, {"type": "text", "text": text}]})
            pictures = []
        else:
            found.append({"role": name, "content": text})
    return found, turns[-1][0] == "assistant", template


def _turns(text: str) -> list[tuple[str, str]]:
    """Split a prompt with its special tokens into (header, text) of every turn; without tokens it is the user's."""
    before, *rest = text.replace(IMAGE_PLACEHOLDER, "").split(TURN_START)
    turns = [("user", before)] if before else []
    for turn in rest:
        role, _, words = turn.partition("\n")
        turns.append((role, words.removesuffix("\n").removesuffix(TURN_END) if TURN_END in words else words))
    return turns


def _image_part(image: bytes) -> dict[str, Any]:
    found = format_of(image[:HEAD_BYTES])
    mime = "image/png" if found is None else found.mime  # of another kind the server looks at the content
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{mime};base64,{base64.b64encode(image).decode()}"},
    }


# -- client -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _client(endpoint: Endpoint) -> OpenAI:
    """Return the SDK's client of an endpoint; it keeps connections open and may be shared by threads."""
    try:
        from openai import OpenAI
    except ImportError as error:
        raise MissingPackageError(
            "asking a server needs openai, which is missing; pip install 'ixc-4khd[eval]'"
        ) from error
    return OpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key or "none",  # the SDK (3.57) refuses an empty key; `_options` leaves it out
        timeout=endpoint.timeout,
        max_retries=endpoint.attempts - 1,
    )


def _options(endpoint: Endpoint) -> Any:
    """Return the options of a request: without a key no Authorization header is sent."""
    from openai import Omit

    return {} if endpoint.key else {"headers": {"Authorization": Omit()}}


def _models(endpoint: Endpoint) -> list[str]:
    """Return the served names, [] if the server lists none."""
    client = _client(endpoint)
    with _clear_errors(endpoint, "models"):
        found = client.get("/models", cast_to=object, options=_options(endpoint))
    if not isinstance(found, dict):
        raise EndpointError(
            f"{endpoint.url}/models answered no JSON object ({str(found)[:60]!r}); is it OpenAI-compatible?"
        )
    return [each["id"] for each in found.get("data") or [] if isinstance(each, dict) and "id" in each]


@contextmanager
def _clear_errors(endpoint: Endpoint, path: str) -> Iterator[None]:
    """Turn the SDK's errors into one line with the remedy.

    Raises:
        EndpointError: the server refuses this request, does not answer it in time, or answers no JSON.
        UnreachableError: it would refuse any request, or there is no connection.
    """
    import openai

    where = f"{endpoint.url}/{path}"
    try:
        yield
    except openai.APIStatusError as error:
        reason = f"HTTP {error.status_code}: {_reason(error)}"
        if error.status_code < 500 and error.status_code not in BUSY:
            kind = UnreachableError if error.status_code in REFUSED_FOR_ALL else EndpointError
            raise kind(f"{where} refused, {reason}; {_remedy(error.status_code, reason)}") from error
        raise EndpointError(_no_answer(where, endpoint, reason)) from error
    except openai.APIConnectionError as error:  # its cause says why
        kind = EndpointError if isinstance(error, openai.APITimeoutError) else UnreachableError
        raise kind(_no_answer(where, endpoint, str(error.__cause__ or error))) from error
    except (openai.OpenAIError, ValueError) as error:
        raise EndpointError(f"{where} answered no JSON ({str(error)[:60]}); is it OpenAI-compatible?") from error


def _no_answer(where: str, endpoint: Endpoint, reason: str) -> str:
    return (
        f"{where} gave no answer in {endpoint.attempts} attempts ({reason}); "
        "is the server running? An interrupted run can be resumed"
    )


def _reason(error: Any) -> str:
    """Return the message of an error response, else its body, on one line."""
    told = error.body.get("message") if isinstance(error.body, dict) else None
    text = told if isinstance(told, str) else error.response.text
    return " ".join(text.split())[:300] or str(error.response.reason_phrase)


def _remedy(code: int, reason: str) -> str:
    if code in (401, 403):
        return "set OPENAI_API_KEY"
    if code == 404:
        return "check the address and --model"
    if "image" in reason.lower() or code == 413:
        return "check the images of this question in the data set"
    return "a server without beam search and primed answers needs --prompts clean, one without HD --openai-only too"
