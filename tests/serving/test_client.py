"""The official client against both servers: sync, async, streaming, settings, errors. Oracle: `Engine.ask`.

The light server serves the tiny model; vLLM, where it is installed, the embedded one behind `ixc serve --engine vllm`:

    FOLDER/bin/python -m pytest -m vllm tests/serving/test_client.py         FOLDER: see dev/vllm_cpu.sh
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from talk import data_url, image_part, picture, text_part

from ixc.inference.engine import Engine

openai = pytest.importorskip("openai", reason="the official client comes with the extra dev")

QUESTION = "What is the title?"
RECEIPT = Path(__file__).parents[2] / "examples" / "receipt.png"

VLLM = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]


@pytest.fixture(scope="module", params=["light", pytest.param("vllm", marks=VLLM)])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def address(kind: str, request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('server' if kind == 'light' else 'vllm_server').url}/v1"


@pytest.fixture(scope="module")
def engine(kind: str, request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue("engine_of_tiny" if kind == "light" else "engine_of_embedded")


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture
def page(kind: str, page: Path) -> Path:
    """A picture that the served model says more than a letter about: the embedded one reads, the tiny one does not."""
    return page if kind == "light" else RECEIPT


@pytest.fixture
def messages(page: Path) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [image_part(data_url(page.read_bytes())), text_part(QUESTION)]}]


def create(client: Any, messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=messages, **options)


def test_serve_answer_and_usage_are_the_engines(
    client: Any, engine: Engine, page: Path, messages: Any, kind: str
) -> None:
    own, found = engine.ask([page], QUESTION), create(client, messages)
    assert found.choices[0].message.content == own.text
    assert found.usage.prompt_tokens == own.prompt_tokens
    assert found.usage.total_tokens == own.prompt_tokens + found.usage.completion_tokens
    if kind == "light":  # vLLM counts the stop token too, and has other details
        assert found.usage.completion_tokens == own.new_tokens
        assert found.usage.prompt_tokens_details.image_tokens == own.image_tokens[0]
    assert found.choices[0].finish_reason in ("stop", "length")


def test_serve_streaming_gives_the_same_text(client: Any, messages: Any) -> None:
    whole = create(client, messages).choices[0]
    events = list(create(client, messages, stream=True, stream_options={"include_usage": True}))
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == whole.message.content
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == whole.finish_reason
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-1].usage.prompt_tokens > 313  # those of one image


def test_serve_concurrent_requests(address: str, messages: Any, client: Any) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as own:
            calls = [create(own, messages), create(own, [{"role": "user", "content": "x"}]), create(own, messages)]
            return [found.choices[0].message.content for found in await asyncio.gather(*calls)]

    first, text_alone, second = asyncio.run(ask())
    assert first == second == create(client, messages).choices[0].message.content
    assert text_alone == create(client, [{"role": "user", "content": "x"}]).choices[0].message.content


def test_serve_several_images_and_turns(client: Any, engine: Engine, page: Path) -> None:
    image = image_part(data_url(page.read_bytes()))
    turns = [
        {"role": "user", "content": [image, image, text_part("What is it?")]},
        {"role": "assistant", "content": "A page."},
        {"role": "user", "content": QUESTION},
    ]
    own = engine.ask([page, page], QUESTION, history=[("What is it?", "A page.")])
    found = create(client, turns)
    assert found.choices[0].message.content == own.text
    assert found.usage.prompt_tokens == own.prompt_tokens
    more = create(client, [{"role": "system", "content": "Be short."}, *turns]).usage.prompt_tokens - own.prompt_tokens
    assert (more > 0) is engine.processor.system_turns  # the embedded model was never taught system turns


def test_serve_later_turn_with_its_own_image(client: Any, messages: Any) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}, *messages]
    first = create(client, messages).usage.prompt_tokens
    assert create(client, turns).usage.prompt_tokens > first > 300  # one image has at least 313 tokens


@pytest.mark.parametrize(
    "extra", [{"hd": 1, "partition": "fit"}, {"mm_processor_kwargs": {"hd": 1, "partition": "fit"}}]
)
def test_serve_hd_and_partition_of_a_request(
    client: Any, engine: Engine, page: Path, messages: Any, extra: dict[str, Any]
) -> None:
    own = engine.ask([page], QUESTION, hd=1, partition="fit")
    found = create(client, messages, extra_body=extra)
    assert found.choices[0].message.content == own.text
    assert found.usage.prompt_tokens == own.prompt_tokens


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_serve_max_tokens(client: Any, messages: Any, name: str) -> None:
    found = create(client, messages, **{name: 2})
    assert found.usage.completion_tokens <= 2
    if found.usage.completion_tokens == 2:
        assert found.choices[0].finish_reason == "length"


def test_serve_seed_repeats_a_drawn_answer(client: Any) -> None:
    asked = [{"role": "user", "content": "x"}]
    first, second = (
        create(client, asked, temperature=1.5, top_p=0.95, seed=3).choices[0].message.content for _ in range(2)
    )
    assert first == second
    drawn = {create(client, asked, temperature=2, seed=seed).choices[0].message.content for seed in range(5)}
    assert len(drawn) > 1


def test_serve_temperature_zero_is_greedy(client: Any, messages: Any) -> None:
    greedy = create(client, messages).choices[0].message.content
    assert create(client, messages, temperature=0, top_p=0.5, seed=1).choices[0].message.content == greedy


def test_serve_stop(client: Any, messages: Any) -> None:
    whole = create(client, messages).choices[0].message.content
    assert len(whole) > 4, "the tiny model says too little for this test"
    stop = whole[3:5]
    end = whole.find(stop)
    found = create(client, messages, stop=[stop, "never said"]).choices[0]
    assert (found.message.content, found.finish_reason) == (whole[:end], "stop")
    events = create(client, messages, stop=stop, stream=True)
    assert "".join(e.choices[0].delta.content or "" for e in events) == whole[:end]


def test_serve_logprobs(client: Any, messages: Any, kind: str) -> None:
    found = create(client, messages, logprobs=True, top_logprobs=3)
    entries = found.choices[0].logprobs.content
    said, whole = "".join(entry.token for entry in entries), found.choices[0].message.content
    assert said == whole if kind == "light" else said.startswith(whole)  # vLLM counts the stop token too
    assert len(entries) == found.usage.completion_tokens
    for entry in entries:  # greedy: the token is the likeliest of its alternatives
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
    if kind == "light":
        assert create(client, messages, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    streamed = list(create(client, messages, logprobs=True, top_logprobs=3, stream=True))
    again = [entry for e in streamed if e.choices[0].logprobs for entry in e.choices[0].logprobs.content]
    assert [entry.token for entry in again] == [entry.token for entry in entries]


def test_serve_models(client: Any, kind: str) -> None:
    found = list(client.models.list())
    assert [model.id for model in found] == ["tiny"]
    assert found[0].max_model_len >= 2048
    if kind == "light":
        assert client.models.retrieve("tiny").max_model_len == 2048
        with pytest.raises(openai.NotFoundError, match="this server has tiny"):
            client.models.retrieve("gpt-4")


def test_serve_unknown_model(client: Any, messages: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=messages)
    assert caught.value.code in ("model_not_found", "404")  # vLLM repeats the status


def test_serve_errors_have_code_and_parameter(client: Any, messages: Any, kind: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, messages, max_tokens=50_000)
    if kind == "light":
        assert caught.value.code == "context_length_exceeded"
        assert "positions" in str(caught.value)
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, messages, tools=[{"type": "function", "function": {"name": 5}}])
    if kind == "light":
        assert caught.value.param == "tools.0.function.name"
    with pytest.raises(openai.BadRequestError, match="unknown field") as caught:
        create(client, messages, extra_body={"chat_template": "{{ 1 }}"})
    assert caught.value.code == "unknown_parameter"


def test_serve_fetches_no_images_by_default(client: Any) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        create(client, [{"role": "user", "content": [image_part("http://127.0.0.1/x.png"), text_part()]}])
    assert caught.value.code == "fetching_off"


def test_serve_json_schema(client: Any, messages: Any, kind: str) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    if kind == "light":
        pytest.importorskip("llguidance", reason="the extra serve is not installed")
    found = create(client, messages, response_format=wanted, max_tokens=40).choices[0].message.content
    assert json.loads(found)["n"] in (1, 2)


TOTAL = {"type": "object", "properties": {"total": {"type": "string", "maxLength": 4}}, "required": ["total"]}
TOOL = {"type": "function", "function": {"name": "book", "parameters": TOTAL}}


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}], ids=str)
def test_serve_tools_that_are_not_forced_leave_the_answer(client: Any, messages: Any, choice: Any) -> None:
    plain = create(client, messages, max_tokens=8).choices[0].message
    found = create(client, messages, max_tokens=8, tools=[TOOL], **choice).choices[0].message
    assert (found.content, found.tool_calls or []) == (plain.content, [])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "book"}}], ids=str)
def test_serve_tools_that_are_forced_are_called(client: Any, messages: Any, kind: str, choice: Any) -> None:
    if kind == "light":
        pytest.importorskip("llguidance", reason="the extra serve is not installed")
    (call,) = create(client, messages, max_tokens=100, tools=[TOOL], tool_choice=choice).choices[0].message.tool_calls
    found = json.loads(call.function.arguments)
    assert (call.function.name, list(found)) == ("book", ["total"])
    assert len(found["total"]) <= 4


def test_serve_image_formats(client: Any) -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        content = [image_part(data_url(picture(kind=form), f"image/{form.lower()}"), detail="high"), text_part()]
        assert create(client, [{"role": "user", "content": content}], max_tokens=1).usage.prompt_tokens > 100
