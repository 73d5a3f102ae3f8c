"""Cost and validity of structured output with the embedded model: 200 random schemas, and seconds a token with a mask.

    PYTHONPATH=src:tests/inference python dev/structured_cost.py        writes benchmarks/structured_nano_202611.json

The seconds are medians of alternating answers to one question, as a text and as JSON with one field.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event
from time import perf_counter
from typing import Any

from random_schemas import random_schema, validate

from ixc.core.chat_format import Image, Message
from ixc.core.prompt_format import CHAT_FORMAT
from ixc.inference.engine import Engine, load
from ixc.inference.request import open_picture
from ixc.inference.sampling import GREEDY
from ixc.serving import generation
from ixc.serving.deltas import TextDelta
from ixc.serving.jobs import JobOptions, prepare_job, question_inputs
from ixc.serving.json_plan import StructuredOutput
from ixc.serving.structured import OutputSchema
from ixc.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "structured_nano_202611.json"
SCHEMAS, REPEATS, VALUE_TOKENS = 200, 12, 16
QUESTION = "What is the TOTAL?"
ONE_FIELD = {"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}


class Asker:
    """Answers one question about the receipt, as a text or as JSON."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.structured = engine, StructuredOutput(engine)
        picture = open_picture(ROOT / "examples" / "receipt.png")
        self.messages = [Message("user", (Image(picture), QUESTION))]
        image = engine.processor.image_processor
        options = JobOptions(
            sampling=GREEDY,
            hd=image.hd,
            partition=image.partition,
            max_new_tokens=VALUE_TOKENS,
            prompt_format=CHAT_FORMAT,
        )
        self.job = prepare_job(engine, self.messages, options)

    def ask(self, schema: dict[str, Any] | None) -> tuple[str, TextDelta, float]:
        """Return the text, its last delta and its seconds, without reading the schema."""
        job = self.job
        if schema is not None:
            output = OutputSchema(schema=schema, checked={"schema": schema})
            inputs = question_inputs(self.engine, self.messages, CHAT_FORMAT, job.inputs)
            job = replace(job, json=self.structured.plan(output, total=None, field_inputs=inputs))
        deltas: list[TextDelta] = []
        start = perf_counter()
        generation.generate(self.engine, job, cancelled=Event(), emit=deltas.append)
        return "".join(delta.text for delta in deltas), deltas[-1], perf_counter() - start


def main() -> None:
    asker = Asker(load(device="cpu"))
    seconds: dict[str, list[float]] = {"text": [], "json": []}
    for schema in (ONE_FIELD, None):  # not timed: the first answer encodes the picture
        asker.ask(schema)
    for _ in range(REPEATS):
        for kind, schema in (("text", None), ("json", ONE_FIELD)):
            _, last, spent = asker.ask(schema)
            seconds[kind].append(spent / (last.new_tokens + 1))  # the stop token is generated too
    medians = {kind: statistics.median(found) for kind, found in seconds.items()}
    invalid = []
    for seed in range(SCHEMAS):
        schema = random_schema(Random(seed))
        try:
            validate(json.loads(asker.ask(schema)[0]), schema)
        except Exception as error:
            invalid.append({"seed": seed, "error": f"{type(error).__name__}: {str(error)[:200]}"})
    found = {
        "repeats": REPEATS,
        "text_ms_a_token": round(1000 * medians["text"], 3),
        "json_ms_a_token": round(1000 * medians["json"], 3),
        "ratio": round(medians["json"] / medians["text"], 3),
        "schemas": SCHEMAS,
        "invalid": invalid,
    }
    atomic_write(RESULT, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
