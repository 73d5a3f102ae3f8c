"""A client of OpenAI-compatible servers: `ixc serve`, vLLM and others. One for evaluation and for reading documents.

    Endpoint --connect--> Endpoint with a served model --post--> JSON object --text_of--> choices[0].message.content

The client is the `openai` SDK, which retries while the server is busy and follows its Retry-After.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ixc.errors import EndpointError, MissingPackageError, UnreachableError, UsageError

if TYPE_CHECKING:
    from openai import OpenAI

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


def complete(endpoint: Endpoint, turns: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str:
    """Return the text of the first choice.

    Args:
        endpoint: server and model.
        turns: messages of the request.
        body: its other fields, including those that are not OpenAI's.

    Raises:
        EndpointError: no answer, or none of the expected form.
    """
    return text_of(endpoint, post(endpoint, turns, body))


def post(
    endpoint: Endpoint,
    turns: Sequence[Mapping[str, Any]],
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Return the server's answer to a chat completion, decoded from JSON.

    Args:
        endpoint, turns, body: as of `complete`.
        headers: further headers of the request.

    Raises:
        EndpointError: no answer.
    """
    client = _client(endpoint)
    with _clear_errors(endpoint, "chat/completions"):
        # `post`, because the typed method would refuse fields that it does not know
        return client.post(
            "/chat/completions",
            body={"model": endpoint.model, "messages": turns, **body},
            cast_to=object,
            options=_options(endpoint, headers),
        )


def text_of(endpoint: Endpoint, found: Any) -> str:
    """Return the text of the first choice of `post`'s result. Raises: EndpointError: there is none."""
    try:
        text = found["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise EndpointError(f"{endpoint.url} gave no text ({str(found)[:120]}); is it OpenAI-compatible?")
    return text


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


def _options(endpoint: Endpoint, headers: Mapping[str, str] | None = None) -> Any:
    """Return the options of a request: without a key no Authorization header is sent."""
    from openai import Omit

    sent = dict(headers or {}) | ({} if endpoint.key else {"Authorization": Omit()})
    return {"headers": sent} if sent else {}


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
