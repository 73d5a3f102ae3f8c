"""How dev/clients.py judges an outcome, and that its result file holds every client; `just clients` runs them."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    """dev/clients.py as a module."""
    spec = spec_from_file_location("dev_clients", ROOT / "dev" / "clients.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = script()
REFUSED = "BadRequestError: Error code: 400 - messages.0.content.1: the picture (24 bytes) is not a picture"


@pytest.mark.parametrize(
    ("call", "outcome", "ok"),
    [
        ("call", {"value": "641.57"}, True),
        ("call", {"value": "641.5"}, False),
        ("call", {"raised": "641.57"}, False),
        ("tools", {"cannot": "has no forced call"}, None),
        ("error", {"raised": REFUSED}, True),
        ("error", {"raised": "BadRequestError: 400"}, False),
        ("error", {"value": REFUSED}, False),
    ],
)
def test_judge_outcomes(call: str, outcome: dict[str, str], ok: bool | None) -> None:
    assert tool.judge(call, outcome)["ok"] is ok


def test_judge_fault_of_client() -> None:
    assert tool.judge("PDF", {"raised": "KeyError"}, fault="sends no data")["client"]
    assert "client" not in tool.judge("PDF", {"value": tool.RIGHT}, fault="sends no data")


def test_unable_row_has_every_call() -> None:
    row = tool.unable(tool.CLIENTS["openai (Python), responses"], {})
    assert {cell["ok"] for cell in row["cells"].values()} == {None}
    assert list(row["cells"]) == list(tool.CALLS)


@pytest.mark.parametrize("engine", ["light", "vllm"])
def test_clients_all_in_result_file(engine: str) -> None:
    result = json.loads(tool.RESULTS[engine].read_text())
    found = result["clients"]
    assert result["server"] == engine
    assert list(found) == list(tool.CLIENTS)
    assert all(list(row["cells"]) == list(tool.CALLS) for row in found.values())
    assert all((tool.FILES / client.file).exists() for client in tool.CLIENTS.values())
