"""Bodies as real clients send them: right status, and 641.57 where they ask for the TOTAL of the receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talk import Running, running

from ixc.inference.engine import Engine
from ixc.inference.model_folder import find_folder

BODIES = Path(__file__).parents[3] / "shared" / "cases" / "requests"
NAMES = sorted(path.stem for path in BODIES.glob("*.json"))
TOTAL = "641.57"

STRUCTURED = {"30_json_schema", "31_json_object", "32_tools_auto", "33_tools_required", "35_tools_choice_none"}
"""Bodies with a schema or with tools."""

OTHER_ANSWERS = {"54_base64_wrapped"}
"""Bodies that ask something else than the TOTAL, of an empty image."""

ERRORS = {
    "11_completions_route": (404, "/v1/chat/completions"),
    "12_no_v1_prefix": (404, "/v1/chat/completions"),
    "50_max_tokens_above_context": (400, "positions"),
    "60_err_huge": (400, "messages.0.content.1"),
    "61_err_model": (404, "this server has nano"),
    "62_err_field": (400, "zebra"),
    "63_http_image": (403, "messages.0.content.1"),
}
"""Name -> status and a word of the error."""

ROUTES = {
    "10_responses_route": "/v1/responses",
    "11_completions_route": "/v1/completions",
    "12_no_v1_prefix": "/chat/completions",
}

pytestmark = pytest.mark.skipif(not NAMES, reason="the bodies of requests lie beside the repository, in ../shared")


@pytest.fixture(scope="module")
def nano(engine_of_embedded: Engine) -> Iterator[Running]:
    with running(engine_of_embedded, find_folder(None), name="nano") as found:
        yield found


def text_of(found: dict[str, Any]) -> str:
    """The text of an answer of either API."""
    if "choices" in found:
        return found["choices"][0]["message"]["content"]
    return found["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("name", NAMES)
def test_request_bodies_get_the_right_answer(nano: Running, name: str) -> None:
    if name in STRUCTURED:
        pytest.importorskip("llguidance", reason="the grammar engine of the extra serve is not installed")
    body = json.loads((BODIES / f"{name}.json").read_text())
    status, found, _ = nano.call("POST", ROUTES.get(name, "/v1/chat/completions"), body)
    if name in ERRORS:
        wanted, word = ERRORS[name]
        assert (status, word in found["error"]["message"]) == (wanted, True), found
        return
    assert status == 200, found
    if name in STRUCTURED:
        assert TOTAL in json.dumps(found["choices"][0]["message"])
    elif name not in OTHER_ANSWERS:
        assert text_of(found) == TOTAL
