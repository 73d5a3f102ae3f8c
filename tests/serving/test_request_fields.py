"""Parts and fields of requests: what is read, what is accepted without effect, and errors that name the path."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from talk import Running, data_url, image_part, picture, text_part

from ixc.serving.content import read_content
from ixc.serving.errors import ApiError
from ixc.serving.fields import IGNORED
from ixc.serving.image_input import ImageInput, Limits

pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")

IMAGE = data_url(picture())


def pdf(pages: int = 1, *, side: int = 100) -> bytes:
    """A PDF of empty pages of side x side points."""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {pages}/Kids[{' '.join(f'{3 + n} 0 R' for n in range(pages))}]>>",
        *[f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {side} {side}]>>"] * pages,
    ]
    out = "%PDF-1.4\n" + "".join(f"{n} 0 obj{text}endobj\n" for n, text in enumerate(objects, 1))
    return (out + "trailer<</Root 1 0 R>>").encode()


def base64_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


PDF_URL = f"data:application/pdf;base64,{base64_of(pdf())}"
SAME = {
    "image_url as a string": {"type": "image_url", "image_url": IMAGE},
    "input_image": {"type": "input_image", "image_url": IMAGE, "detail": "low"},
    "input_image as an object": {"type": "input_image", "image_url": {"url": IMAGE, "detail": "original"}},
    "an id and a cache mark": {**image_part(IMAGE), "id": "x", "cache_control": {"type": "ephemeral"}},
    "a file": {"type": "file", "file": {"file_data": IMAGE, "filename": "page.png"}},
    "a file in bare base64": {"type": "file", "file": {"file_data": base64_of(picture())}},
    "input_file": {"type": "input_file", "file_data": IMAGE, "filename": "page.png"},
}


@pytest.mark.parametrize("name", SAME)
def test_read_content_reads_every_shape_of_an_image(server: Running, name: str) -> None:
    usual = server.ask([image_part(IMAGE), text_part()], max_tokens=3)[1]
    status, found = server.ask([SAME[name], {"type": "input_text", "text": "What is the title?"}], max_tokens=3)
    assert status == 200, found
    assert found["usage"]["prompt_tokens"] == usual["usage"]["prompt_tokens"]
    assert found["choices"][0]["message"] == usual["choices"][0]["message"]


@pytest.mark.parametrize(
    ("part", "path", "words"),
    [
        ({"type": "image_url", "image_url": {"url": 3}}, ".image_url.url", "is 3; a data: URL"),
        ({"type": "image_url"}, ".image_url", "is null"),
        ({"type": "image_url", "image_url": {"url": IMAGE, "detail": "tiny"}}, ".image_url.detail", '"tiny"; auto'),
        ({"type": "text", "text": None}, ".text", "is null; a string"),
        ({"type": "text", "text": "x", "zebra": 1}, ".zebra", "leave it out"),
        ({"type": "input_audio", "input_audio": {}}, ".type", '"input_audio"; "text", "image_url", "file"'),
        ({"type": ["x"]}, ".type", 'is ["x"]; "text"'),
        ({"type": "file", "file": {"file_id": "file-1"}}, ".file.file_id", "no files are stored here"),
        ({"type": "input_file"}, ".file_data", "is null"),
        (7, "", "is 7; a part is a string or an object"),
    ],
)  # fmt: skip
def test_read_content_names_the_part(server: Running, part: Any, path: str, words: str) -> None:
    status, found = server.ask([text_part(), part])
    assert status == 400
    assert found["error"]["param"] == f"messages.0.content.1{path}"
    assert words in found["error"]["message"]


@pytest.mark.parametrize("content", [3, {"type": "text"}, True])
def test_read_content_takes_a_string_or_a_list(content: Any) -> None:
    with pytest.raises(ApiError, match=r"^messages\.4\.content is .*; a string or a list of parts is needed"):
        read_content(content, "messages.4.content")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64,AAAA", "messages.0.content.0 is data that begins with"),
        ("data:image/png,AAAA", "messages.0.content.0: data:image/png,AAAA"),
        ("ftp://x/y", "messages.0.content.0: ftp://x/y is no URL"),
    ],
)
def test_file_source_errors_name_the_part(server: Running, url: str, words: str) -> None:
    status, found = server.ask([image_part(url)])
    assert (status, found["error"]["param"]) == (400, "messages.0.content.0")
    assert words in found["error"]["message"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": PDF_URL, "filename": "page.pdf"}},
        {"type": "file", "file": {"file_data": base64_of(pdf())}},
        {"type": "input_file", "file_data": PDF_URL},
        image_part(PDF_URL),
        {"type": "input_image", "image_url": PDF_URL},
    ],
)
def test_draw_makes_a_pdf_its_pages(server: Running, part: dict[str, Any]) -> None:
    one = server.ask([part, text_part()], max_tokens=1, hd=1)[1]["usage"]["prompt_tokens_details"]["image_tokens"]
    three = data_url(pdf(3), "application/pdf")
    found = server.ask([image_part(three), text_part()], max_tokens=1, hd=1)[1]
    assert found["usage"]["prompt_tokens_details"]["image_tokens"] == 3 * one > 0


def test_draw_has_limits(server: Running) -> None:
    """Four images a request, 1,000,000 px each and 1,500,000 together in this server."""
    long = image_part(data_url(pdf(5)))
    assert_refused(server.ask([long]), "a PDF of 5 pages, and 4 more images are allowed")
    assert_refused(server.ask([image_part(IMAGE), image_part(data_url(pdf(4)))]), "3 more images")
    assert_refused(server.ask([image_part(data_url(pdf(2, side=720)))]), "1,500,000 px")
    assert server.ask([image_part(data_url(pdf(1, side=720))), text_part()], max_tokens=1)[0] == 200
    assert_refused(server.ask([image_part(data_url(b"%PDF-1.4 and nothing more"))]), "messages.0.content.0")


def assert_refused(answer: tuple[int, Any], words: str) -> None:
    status, found = answer
    assert status == 400
    assert words in found["error"]["message"]


def test_draw_has_a_time_limit() -> None:
    with pytest.raises(ApiError, match="took longer than"):
        ImageInput(limits=Limits(pdf_seconds=0.0)).draw(pdf(), name="x", most=9)


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_ignored_fields_are_accepted(server: Running, name: str) -> None:
    assert server.ask("x", max_tokens=1, **{name: "auto"})[0] == 200


def test_neutral_values_are_accepted(server: Running) -> None:
    neutral = {
        "skip_special_tokens": True, "ignore_eos": False, "min_tokens": 0, "modalities": ["text"], "top_k": -1,
        "chat_template_kwargs": {"enable_thinking": False}, "min_p": 0.1, "length_penalty": 1.0, "zebra": None,
    }  # fmt: skip
    status, found = server.ask("x", max_tokens=3, **neutral)
    assert status == 200, found
    assert found["choices"] == server.ask("x", max_tokens=3)[1]["choices"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": 3}, "temperature", "temperature is 3; it must be less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", 'temperature is "hot"; it must be a valid number'),
        ({"stop": 3}, "stop", "stop is 3; a string or a list of strings"),
        ({"skip_special_tokens": False}, "skip_special_tokens", "is false; only true is supported"),
        ({"ignore_eos": True}, "ignore_eos", "is true; only false"),
        ({"n": 9}, "n", "n is 9; at most 8"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "logit_bias.x is no token"),
        ({"logit_bias": {"99999": 1}}, "logit_bias.99999", "the ids of this model's tokens"),
        ({"logit_bias": {"5": 200}}, "logit_bias.5", "is 200; it must be less than or equal to 100"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.-1", "the ids of this model's tokens"),
        ({"frequency_penalty": 3}, "frequency_penalty", "is 3; it must be less"),
        ({"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs.x", "unknown; leave it out"),
        ({"stream_options": 3}, "stream_options", "is 3"),
    ],
)
def test_check_extras_refuses_with_path_and_value(server: Running, fields: Any, param: str, words: str) -> None:
    status, found = server.ask("x", **fields)
    assert (status, found["error"]["param"]) == (400, param), found
    assert words in found["error"]["message"]


def test_validation_error_names_a_missing_field(server: Running) -> None:
    status, found, _ = server.call("POST", "/v1/chat/completions", {"model": "tiny"})
    assert (status, found["error"]["param"]) == (400, "messages")
    assert "messages is missing" in found["error"]["message"]


def tokens(server: Running, **fields: Any) -> list[int]:
    """Ids of the answer to "x"."""
    found = server.ask("x", **fields)[1]["choices"][0]["message"]["content"]
    return server.service.engine.processor.tokenizer(found, add_special_tokens=False)["input_ids"]


def test_logit_bias_and_stop_token_ids(server: Running) -> None:
    chosen = server.service.engine.processor.tokenizer("7", add_special_tokens=False)["input_ids"][-1]
    status, found = server.ask("x", max_tokens=3, logit_bias={str(chosen): 100})
    assert status == 200, found
    assert found["choices"][0]["message"]["content"] == "777"
    ended = server.ask("x", max_tokens=3, logit_bias={str(chosen): 100}, stop_token_ids=[chosen])[1]["choices"][0]
    assert (ended["message"]["content"], ended["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_answer_count_penalty_discourages_what_the_answer_holds(server: Running, name: str) -> None:
    chosen = server.service.engine.processor.tokenizer("7", add_special_tokens=False)["input_ids"][-1]
    other = server.service.engine.processor.tokenizer("8", add_special_tokens=False)["input_ids"][-1]
    bias = {str(chosen): 100, str(other): 99.5}
    plain, penal = (
        server.ask("x", max_tokens=4, logit_bias=bias, **more)[1]["choices"][0]["message"]["content"]
        for more in ({}, {name: 2})
    )
    assert plain == "7777"
    assert "8" in penal


def test_chat_response_choices_from_one_prefill(server: Running) -> None:
    status, found = server.ask("x", n=3, temperature=1.5, seed=1, max_tokens=5)
    assert status == 200, found
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    first = server.ask("x", temperature=1.5, seed=1, max_tokens=5)[1]
    assert found["choices"][0] == first["choices"][0]
    assert len({choice["message"]["content"] for choice in found["choices"]}) > 1
    assert found["usage"]["completion_tokens"] > first["usage"]["completion_tokens"]
    assert found["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]


def test_chat_response_choices_stream(server: Running) -> None:
    fields = {"n": 2, "temperature": 1.5, "seed": 4, "max_tokens": 5}
    whole = server.ask("x", **fields)[1]
    text = server.ask("x", stream=True, stream_options={"include_usage": True}, **fields)[1]
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    for place, choice in enumerate(whole["choices"]):
        mine = [e["choices"][0] for e in events if e["choices"] and e["choices"][0]["index"] == place]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content", "") for each in mine) == choice["message"]["content"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
    assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_draw_is_rgb_at_200_dpi() -> None:
    """What `ixc read` draws too."""
    (page,) = ImageInput().draw(pdf(side=72), name="x", most=1)
    assert (page.mode, page.size) == ("RGB", (200, 200))
