"""The field `confidence` of a choice: whole answers, streams, several choices, side by side and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from talk import Running, data_url, image_part, text_part

from ixc.inference.engine import Engine


def body(page: Path, **fields: Any) -> dict[str, Any]:
    content = [image_part(data_url(page.read_bytes())), text_part()]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 6, **fields}


@pytest.fixture(scope="module")
def wanted(engine: Engine, page: Path) -> float:
    """Confidence of the same answer in Python."""
    found = engine.ask([page], text_part()["text"], max_new_tokens=6).confidence
    assert found is not None
    return found


def test_chat_response_has_the_confidence(server: Running, page: Path, wanted: float) -> None:
    _, found, _ = server.call("POST", "/v1/chat/completions", body(page))
    assert found["choices"][0]["confidence"] == pytest.approx(wanted, abs=2e-3)


def test_chat_response_alone_has_the_same_confidence(server: Running, page: Path, wanted: float) -> None:
    _, found, _ = server.call("POST", "/v1/chat/completions", body(page, logprobs=True))
    (choice,) = found["choices"]
    assert choice["confidence"] == pytest.approx(wanted, abs=2e-3)


def test_chat_response_of_several_choices_has_one_each(server: Running, page: Path) -> None:
    _, found, _ = server.call("POST", "/v1/chat/completions", body(page, n=2, temperature=1.0, seed=3))
    assert all(0 <= choice["confidence"] <= 1 for choice in found["choices"])
    assert len(found["choices"]) == 2


def test_chat_response_of_beams_has_none(server: Running, page: Path) -> None:
    _, found, _ = server.call("POST", "/v1/chat/completions", body(page, use_beam_search=True, n=2))
    assert all("confidence" not in choice for choice in found["choices"])


def test_chat_stream_has_the_confidence_in_its_last_chunk(server: Running, page: Path, wanted: float) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    chunks = list(client.chat.completions.create(**body(page), stream=True))
    last = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert last[-1].finish_reason
    assert last[-1].confidence == pytest.approx(wanted, abs=2e-3)
    assert all(not (choice.model_extra or {}).get("confidence") for choice in last[:-1])
