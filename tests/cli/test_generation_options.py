"""Decoding options of ask, chat and read: what they become, and one line for what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from ixc.cli.ask import AskOptions
from ixc.errors import UsageError
from ixc.inference.engine import Engine, load
from ixc.inference.sampling import Sampling

PLAIN = AskOptions(question="Title?")


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Sampling()),
        ({"temperature": 0.0}, Sampling()),
        ({"beams": 3}, Sampling(num_beams=3)),
        ({"temperature": 0.7}, Sampling(do_sample=True, temperature=0.7)),
        ({"top_p": 0.9}, Sampling(do_sample=True, top_p=0.9)),
        ({"top_k": 0, "seed": 4}, Sampling(do_sample=True, top_k=0, seed=4)),
        ({"temperature": 2.0, "beams": 2}, Sampling(do_sample=True, temperature=2.0, num_beams=2)),
    ],
)
def test_generation_options_sampling(given: dict[str, Any], wanted: Sampling) -> None:
    assert replace(PLAIN, **given).sampling == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 1}, "--seed has no effect .* add --temperature 1"),
        ({"temperature": 0.0, "top_p": 0.5, "seed": 1}, "--temperature 0 .* so --top-p, --seed has no effect"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"stop": [""]}, "a stop text is empty"),
        ({"system": "a\udcff"}, "character 2 of 2 of the text"),
        ({"max_new_tokens": 0}, "--max-new-tokens is 0"),
        ({"hd": 999}, "at most 256, got 999"),
        ({"partition": "golden"}, "'golden'; use one of original, native, fit"),
    ],
)
def test_generation_options_check(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(PLAIN, **given).check()


LIMITS = ("--temperature -1", "--top-p 2", "--top-k -1", "--beams 0", "--beams 9", "--seed -1", f"--seed {2**63}")


@pytest.mark.parametrize("command", ["ask PAGE What?", "chat PAGE", "read PAGE"])
@pytest.mark.parametrize("option", [*LIMITS, "--seed 1", "--system Hi"])
def test_generation_options_are_checked_before_a_model_is_loaded(
    run: Run, page: Path, command: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    for module in ("ask", "read"):
        monkeypatch.setattr(f"ixc.cli.{module}.load_engine", never)
    words = [str(page) if word == "PAGE" else word for word in command.split()]
    code, out, err = run(*words, *option.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert option.split()[0] in err


def test_ask_with_a_seed_gives_the_engines_answer(run: Run, page: Path, engine: Engine, tiny_folder: Path) -> None:
    drawn = Sampling(do_sample=True, temperature=2.0, top_k=40, seed=5)
    wanted = engine.ask([page], "a", max_new_tokens=8, sampling=drawn).text
    given = ["--model", tiny_folder, "--max-new-tokens", 8, "--temperature", 2, "--top-k", 40, "--seed", 5]
    assert run("ask", page, "a", *given) == (0, f"{wanted}\n", "")


def test_ask_with_beams_prints_the_best_whole(run: Run, page: Path, engine: Engine, tiny_folder: Path) -> None:
    wanted = engine.ask([page], "a", max_new_tokens=6, sampling=Sampling(num_beams=3)).text
    given = ["--model", tiny_folder, "--max-new-tokens", 6, "--beams", 3]
    assert run("ask", page, "a", *given) == (0, f"{wanted}\n", "")


@pytest.mark.parametrize("device", [(), ("--dtype", "bfloat16")])
def test_ask_system_and_stop(run: Run, page: Path, tiny_folder: Path, device: tuple[str, ...]) -> None:
    """With and without transformers."""
    given = ["--model", tiny_folder, "--max-new-tokens", 9, *device]
    _, plain, _ = run("ask", page, "a", *given)
    text = plain.removesuffix("\n")
    assert len(text) > 3
    stop = text[2:4]
    code, out, _ = run("ask", page, "a", *given, "--stop", stop, "--stop", "never")
    assert (code, out) == (0, f"{text[: text.index(stop)]}\n")
    code, other, _ = run("ask", page, "a", *given, "--system", "Speak of nothing but the weather, at length.")
    assert code == 0
    assert other != plain


def test_read_state_of_another_seed_is_refused(
    run: Run, page: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixc.cli.read.load_engine", lambda *_, **__: engine)
    broken, out = tmp_path / "broken.png", tmp_path / "out.md"
    broken.write_bytes(page.read_bytes()[:200])
    given = ["read", page, broken, "--ask", "a", "--out", out, "--max-new-tokens", 2, "--temperature", 1]
    assert run(*given, "--seed", 1)[0] == 3
    code, _, err = run(*given, "--seed", 2)
    assert code == 2
    assert "another seed (1, now 2)" in err
