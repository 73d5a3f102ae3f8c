"""Questions with a JSON schema: the same rows in this process, through a light server, and on Ray."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from ixc.apps.reading import listing
from ixc.apps.reading.answering import EngineAnswerer, EngineSpec, check_schemas
from ixc.apps.reading.endpoints import EndpointRunner
from ixc.apps.reading.local import LocalRunner
from ixc.apps.reading.records import Block, BlockResult, Question, ReadSettings
from ixc.apps.reading.sources import list_files
from ixc.errors import UsageError
from ixc.inference.engine import Engine, load
from ixc.inference.model_folder import EMBEDDED
from ixc.inference.query import Query
from ixc.inference.sampling import Sampling
from ixc.inference.schema_answers import JsonModel, field_question, titles_of

pytest.importorskip("llguidance", reason="the extra serve is not installed")

RECEIPT = Path(__file__).parents[2] / "examples" / "receipt.png"
TEXT = {"type": "string"}
ONE = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
TWO = {"type": "object", "properties": {"total": {"type": "number"}, "date_of_sale": TEXT}}
QUESTIONS = (
    Question(text="What is the title?"),
    Question(text="What is the TOTAL?", name="one", schema=ONE),
    Question(text="Both?", name="two", schema=TWO, max_new_tokens=30),
)
SETTINGS = ReadSettings(questions=QUESTIONS, options={"hd": 9})


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load(EMBEDDED, device="cpu")


def block() -> Block:
    return Block(number=0, pages=tuple(listing.pages_of(list_files([str(RECEIPT)]))))


def answers(results: Iterable[BlockResult]) -> list[tuple[str, str | None, str | None]]:
    return [(row.column, row.answer, row.error) for result in results for row in result.rows]


def locally(engine: Engine) -> list[tuple[str, str | None, str | None]]:
    return answers(LocalRunner(lambda: EngineAnswerer(engine, SETTINGS), SETTINGS).run([block()]))


def test_engine_answerer_answers_in_json(engine: Engine) -> None:
    found = locally(engine)
    assert [error for *_, error in found] == [None] * 3
    assert found[0][1] == engine.ask([RECEIPT], "What is the title?", hd=9).text
    assert json.loads(found[1][1] or "") == {"total": 641.57}
    both = json.loads(found[2][1] or "")
    assert list(both) == ["total", "date_of_sale"]
    assert isinstance(both["total"], float)
    assert both["date_of_sale"] == engine.ask([RECEIPT], "What is the date of sale?", hd=9).text


def test_json_model_answers_as_the_light_server(engine: Engine) -> None:
    pytest.importorskip("openai", reason="the extra eval is not installed")
    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from ixc.inference.cost import read_geometry
    from ixc.serving.server import Server, listen
    from ixc.serving.service import ChatService, ServiceConfig
    from ixc.utils.chat_client import connect

    service = ChatService(engine, ServiceConfig(name="nano", geometry=read_geometry(EMBEDDED)))
    with closing(listen("127.0.0.1", 0)) as listening:
        server = Server(service, drain_seconds=10)
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            endpoint = connect(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", model=None)
            found = answers(EndpointRunner([endpoint], SETTINGS, concurrency=1).run([block()]))
        finally:
            server.should_exit = True
            thread.join(20)
    assert found == locally(engine)


@pytest.mark.slow
def test_ray_runner_answers_in_json(engine: Engine) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    from ixc.apps.reading.ray_runner import RayRunner
    from ixc.cluster import session

    with session.connect("local", cpus=1, object_store=100 << 20):
        found = answers(RayRunner(EngineSpec(device="cpu"), SETTINGS).run([block()]))
    assert found == locally(engine)


def test_json_model_ends_at_a_stop_text(engine: Engine) -> None:
    query = Query([RECEIPT], "What is the TOTAL?", hd=9, stop=["64"])
    assert JsonModel(engine).answer(query, ONE).text == '{"total": '


def test_json_model_writes_all_of_it_with_a_published_prompt(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonModel, "by_values", False)
    answer = JsonModel(engine).answer(Query([RECEIPT], "What is the TOTAL?", hd=4, max_new_tokens=40), ONE)
    assert answer.text.startswith("{")
    assert answer.new_tokens <= 40


def test_check_schemas_refuses_before_a_model_is_loaded() -> None:
    check_schemas(SETTINGS)
    odd = Question(text="x", schema={"type": "object", "properties": {"a": {"type": "strnig"}}})
    with pytest.raises(UsageError, match=r"the schema of 'x': .*; use a schema without it"):
        check_schemas(ReadSettings(questions=(odd,)))
    beams = ReadSettings(questions=QUESTIONS, options={"sampling": Sampling(num_beams=3)})
    with pytest.raises(UsageError, match="3 beams and a JSON schema do not go together"):
        check_schemas(beams)


def test_titles_of_one_field_asks_the_question_itself() -> None:
    assert titles_of(ONE) == {}
    assert field_question(("total",), {}) is None
    assert field_question(("date_of_sale",), titles_of(TWO)) == "What is the date of sale?"
