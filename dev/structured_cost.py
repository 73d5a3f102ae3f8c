"""Cost and validity of structured output: CPU seconds a token with a mask, and 200 random schemas.

    PYTHONPATH=src:tests/inference python dev/structured_cost.py [NAME...]     writes benchmarks/structured_202611.json

The seconds are medians of alternating answers to one question, as a text and as JSON with one field of text, by one
thread, in CPU time: other work on the machine makes wall time worthless.

    embedded     the embedded model, which is asked for the value alone
    published    random weights of the 7B's widths, two layers of 32 in 8 bits, under the published vocabulary of 92,544
                 ids, which writes all of the JSON itself under a mask
    schemas      answers of the embedded model under random schemas

With two layers a token takes a sixteenth of the whole model's time or more, so the mask's share is overstated.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event
from time import process_time
from typing import Any

import torch
from random_schemas import random_schema, validate

from ixc.bench.subject import Subject
from ixc.core.chat_format import Image, Message
from ixc.core.prompt_format import CHAT_FORMAT
from ixc.inference.engine import Engine, load
from ixc.inference.model_folder import read_processor
from ixc.inference.request import open_picture
from ixc.inference.sampling import GREEDY
from ixc.serving import generation
from ixc.serving.deltas import TextDelta
from ixc.serving.jobs import JobOptions, prepare_job, question_inputs
from ixc.serving.json_plan import StructuredOutput
from ixc.serving.structured import OutputSchema
from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "structured_202611.json"
GOLDENS = ROOT / "tests" / "goldens"
SCHEMAS, REPEATS = 200, 12
QUESTION = "What is the TOTAL?"
ONE_FIELD = {"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}
VALUE_TOKENS, LONG_ANSWER = 16, 32
"""Longest answer of the embedded model, which ends by itself, and of random weights, which do not."""
LAYERS, BITS = 2, 8


class Asker:
    """Answers one question, as a text or as JSON.

    Args:
        engine: of the model.
        content: of the question.
        longest: tokens of an answer.
    """

    def __init__(self, engine: Engine, content: Sequence[str | Image], longest: int) -> None:
        self.engine, self.structured = engine, StructuredOutput(engine)
        self.messages = [Message("user", tuple(content))]
        image = engine.processor.image_processor
        options = JobOptions(
            sampling=GREEDY,
            hd=image.hd,
            partition=image.partition,
            max_new_tokens=longest,
            prompt_format=CHAT_FORMAT,
        )
        self.job = prepare_job(engine, self.messages, options)

    def ask(self, schema: dict[str, Any] | None) -> tuple[str, TextDelta, float]:
        """Return the text, its last delta and its CPU seconds, without reading the schema."""
        job = self.job
        if schema is not None:
            output = OutputSchema(schema=schema, checked={"schema": schema})
            inputs = question_inputs(self.engine, self.messages, CHAT_FORMAT, job.inputs)
            job = replace(job, json=self.structured.plan(output, total=None, field_inputs=inputs))
        deltas: list[TextDelta] = []
        start = process_time()
        generation.generate(self.engine, job, cancelled=Event(), emit=deltas.append)
        return "".join(delta.text for delta in deltas), deltas[-1], process_time() - start

    def seconds(self) -> dict[str, Any]:
        """Time alternating answers."""
        seconds: dict[str, list[float]] = {"text": [], "json": []}
        for schema in (ONE_FIELD, None):  # not timed: the first answer fills the caches
            self.ask(schema)
        tokens: dict[str, int] = {}
        for _ in range(REPEATS):
            for kind, schema in (("text", None), ("json", ONE_FIELD)):
                _, last, spent = self.ask(schema)
                tokens[kind] = last.new_tokens + (last.finish == "stop")  # the stop token is generated too
                seconds[kind].append(spent / tokens[kind])
        medians = {kind: statistics.median(found) for kind, found in seconds.items()}
        return {
            "repeats": REPEATS,
            "tokens": tokens,
            "text_ms_a_token": round(1000 * medians["text"], 3),
            "json_ms_a_token": round(1000 * medians["json"], 3),
            "ratio": round(medians["json"] / medians["text"], 3),
        }


def _embedded() -> Asker:
    picture = open_picture(ROOT / "examples" / "receipt.png")
    return Asker(load(device="cpu"), (Image(picture), QUESTION), VALUE_TOKENS)


def embedded() -> dict[str, Any]:
    """Time the embedded model about the receipt."""
    asker = _embedded()
    return {"model": "the embedded model", "ids": len(asker.engine.processor.tokenizer), **asker.seconds()}


def schemas() -> dict[str, Any]:
    """Have the embedded model meet random schemas."""
    asker, invalid = _embedded(), []
    for seed in range(SCHEMAS):
        schema = random_schema(Random(seed))
        try:
            validate(json.loads(asker.ask(schema)[0]), schema)
        except Exception as error:
            invalid.append({"seed": seed, "error": f"{type(error).__name__}: {str(error)[:200]}"})
    return {"schemas": SCHEMAS, "invalid": invalid}


def published() -> dict[str, Any]:
    """Time random weights under the published vocabulary."""
    subject = Subject(geometry="7b", layers=LAYERS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(GOLDENS / "reference" / "checkpoint" / "config.json", folder)
        shutil.copy(GOLDENS / "tokenizer" / "internlm2-tokenizer.model", folder / "tokenizer.model")
        processor = read_processor(folder)
    engine = Engine(model=subject.engine(BITS, device="cpu").model, processor=processor)
    found = Asker(engine, (QUESTION,), LONG_ANSWER).seconds()
    return {"model": f"{subject.name}, {BITS} bits", "ids": len(processor.tokenizer), **found}


STEPS = {"embedded": embedded, "published": published, "schemas": schemas}


def main() -> None:
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in sys.argv[1:] or STEPS:
        result[name] = STEPS[name]()
        atomic_write(RESULT, json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result[name]), flush=True)


if __name__ == "__main__":
    main()
