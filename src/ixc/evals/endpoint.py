"""A model behind an OpenAI-compatible server (vLLM and the like): questions in, answers out.

    Question --messages--> POST URL/chat/completions, several at once --> choices[0].message.content

Beyond OpenAI's fields a task needs, under vLLM's names:

    mm_processor_kwargs                     {"hd": ...}, the tiles of its images
    use_beam_search, n                      its beams; the answer is the first choice
    add_generation_prompt: false,
    continue_final_message: true            an answer that is begun
    chat_template_kwargs                    {"published": true}: images before the first turn, no default system text;
                                            a template that does not know the word leaves it

`ixc serve` takes all of them, and its answers equal those of the local model. A vLLM server's beams are scored by the
length of prompt and answer together, the local model's by that of the answer, so the two may end in other answers.

A server writes the prompt's tags itself, so a published prompt is taken apart into its turns; runs of blanks in its
text stay, those in the answer's header are sent beside it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ixc.core.chat_format import IMAGE_PLACEHOLDER, TURN_END, TURN_START
from ixc.errors import EndpointError, UsageError
from ixc.processing.image_formats import HEAD_BYTES, format_of

if TYPE_CHECKING:
    from ixc.evals.question import Question

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)
"""HTTP codes after which the same request may succeed."""

LONGEST_WAIT = 120
"""Most seconds a server's Retry-After is followed."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server and one of its models."""

    url: str
    """Ends in /v1 or wherever `chat/completions` is found under."""
    model: str
    """The served name."""
    key: str | None = field(default=None, repr=False)
    """Sent as a bearer token; None sends none."""
    plain: bool = False
    """Only OpenAI's own fields: the server's own HD, greedy, no begun answers."""
    parallel: int = 8
    """Requests at once, >= 1."""
    seconds: float = 600.0
    """How long the server may think about one request."""
    attempts: int = 5
    """Tries while the server is busy or away, >= 1; waits of 1, 2, 4, ... seconds between them."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    """Waits so many seconds."""


def connect(url: str, *, model: str | None = None, **options: Any) -> Endpoint:
    """An endpoint that has answered once.

    Args:
        url: "http://host:8000" or "http://host:8000/v1".
        model: a served name; None = the first the server lists.
        options: other fields of `Endpoint`.

    Raises:
        UsageError: not an address, or no such model there. EndpointError: no answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{url!r} is no address of a server; use http://localhost:8000/v1")
    base = url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
    there = Endpoint(url=base, model=model or "", **options)
    if there.parallel < 1 or there.attempts < 1:
        raise UsageError(f"{there.parallel} requests at once in {there.attempts} attempts; both must be at least 1")
    names = _models(there)
    if model is None and not names:
        raise EndpointError(f"{base}/models lists 0 models; name one with --model")
    if model is not None and names and model not in names:
        raise UsageError(f"{base} serves {', '.join(names)}, not {model!r}; name one of them with --model")
    return there if model else Endpoint(url=base, model=names[0], **options)


def _models(endpoint: Endpoint) -> list[str]:
    listed = _call(endpoint, "models", None).get("data")
    return [each["id"] for each in listed if isinstance(each, dict) and "id" in each] if listed else []


def answers(endpoint: Endpoint, questions: Sequence[Question]) -> list[str]:
    """What the model writes, in the order of the questions.

    Raises:
        EndpointError: the server refuses, or stays away. UsageError: a published prompt for a plain server.
    """
    with ThreadPoolExecutor(endpoint.parallel) as pool:
        return list(pool.map(lambda question: answer(endpoint, question), questions))


def answer(endpoint: Endpoint, question: Question) -> str:
    """One answer; see `answers`."""
    said, primed, form = messages(question)
    body: dict[str, Any] = {"max_tokens": question.max_new_tokens, "temperature": 0}
    if endpoint.plain:
        if primed:
            raise UsageError("a plain server begins its answers itself; use --prompts clean, or leave out --plain")
        return complete(endpoint, said, body)
    if question.images:
        body["mm_processor_kwargs"] = {"hd": question.hd}
    if question.num_beams > 1:
        body |= {"use_beam_search": True, "n": question.num_beams}
    if primed:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if form:
        body["chat_template_kwargs"] = form
    return complete(endpoint, said, body)


def complete(endpoint: Endpoint, said: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str:
    """The text of the first choice.

    Raises:
        EndpointError: no answer, or none of this form.
    """
    found = _call(endpoint, "chat/completions", {"model": endpoint.model, "messages": said, **body})
    try:
        text = found["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise EndpointError(f"{endpoint.url} gave no text ({json.dumps(found)[:120]}); is it OpenAI-compatible?")
    return text


# -- questions -> messages --------------------------------------------------------------------------------------------


def messages(question: Question) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
    """The turns of a question, pictures before the first user's text; True: the last turn is an answer begun; and what
    the server's template has to know of a published prompt."""
    turns = _turns(question.text) if question.raw else [("user", question.text)]
    form: dict[str, Any] = {"published": True} if question.raw else {}
    role, begun = turns[-1]
    if role.strip() == "assistant" and not begun:
        turns.pop()
        form |= {"assistant": role} if role != "assistant" else {}
    pictures = [_picture(image) for image in question.images]
    said: list[dict[str, Any]] = []
    for name, text in turns:
        if name == "user" and pictures:
            said.append({"role": name, "content": [*pictures, {"type": "text", "text": text}]})
            pictures = []
        else:
            said.append({"role": name, "content": text})
    return said, turns[-1][0] == "assistant", form


def _turns(text: str) -> list[tuple[str, str]]:
    """(header, text) of every turn of a prompt with its tags; a prompt without tags is a user's."""
    before, *rest = text.replace(IMAGE_PLACEHOLDER, "").split(TURN_START)
    turns = [("user", before)] if before else []
    for turn in rest:
        role, _, words = turn.partition("\n")
        turns.append((role, words.removesuffix("\n").removesuffix(TURN_END) if TURN_END in words else words))
    return turns


def _picture(image: bytes) -> dict[str, Any]:
    found = format_of(image[:HEAD_BYTES])
    mime = "image/png" if found is None else found.mime  # of another kind the server looks at the content
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{mime};base64,{base64.b64encode(image).decode()}"},
    }


# -- the wire ---------------------------------------------------------------------------------------------------------


def _call(endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """One request, tried again while the server is busy or away."""
    asked = 0.0
    for attempt in range(endpoint.attempts):
        if attempt:
            endpoint.sleep(max(asked, 2.0 ** (attempt - 1)))
        try:
            return _once(endpoint, path, body)
        except HTTPError as error:
            last = f"HTTP {error.code}: {_words(error)}"
            if error.code not in BUSY:
                raise EndpointError(f"{endpoint.url}/{path} refused, {last}; {_remedy(error.code)}") from error
            asked = _retry_after(error)
        except (OSError, HTTPException) as error:
            last, asked = str(getattr(error, "reason", None) or error), 0.0
    raise EndpointError(
        f"{endpoint.url}/{path} gave no answer in {endpoint.attempts} attempts ({last}); "
        "is the server running? A run goes on where it stopped"
    )


def _once(endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{endpoint.url}/{path}", data=data, headers=headers), timeout=endpoint.seconds) as reply:
        text = reply.read()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EndpointError(f"{endpoint.url}/{path} answered no JSON object ({text[:60]!r}); is it OpenAI-compatible?")
    return found


def _retry_after(error: HTTPError) -> float:
    """Seconds that a busy server asks for, at most `LONGEST_WAIT`; 0 where it asks for none."""
    asked = error.headers.get("Retry-After", "")
    return float(min(int(asked), LONGEST_WAIT)) if asked.isascii() and asked.isdecimal() else 0.0


def _words(error: HTTPError) -> str:
    """What the server says, on one line."""
    try:
        return " ".join(error.read(2000).decode(errors="replace").split())[:200] or str(error.reason)
    except (OSError, HTTPException):
        return str(error.reason)


def _remedy(code: int) -> str:
    if code in (401, 403):
        return "set OPENAI_API_KEY"
    if code == 404:
        return "check the address and --model"
    return "a server without beams and begun answers needs --prompts clean, one without HD --plain too"
