"""The one schema of everything that a command prints with `--json`, as JSON Schema (draft 2020-12).

`ixc doctor`, `ixc ask`, `ixc chat` and the others print one object (or list, or line) that is valid under
`SCHEMA["$defs"][COMMANDS[command]]`. `docs/json.md` is written from this file. An object may gain keys with a release;
a key is never given another meaning.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(required: Schema, optional: Schema | None = None, *, doc: str) -> Schema:
    """Return the schema of an object; further keys are allowed."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "description": doc, "properties": properties, "required": list(required)}


def _of(kind: str, doc: str) -> Schema:
    return {"type": kind, "description": doc}


def _null(kind: str, doc: str) -> Schema:
    return {"type": [kind, "null"], "description": doc}


def _list(items: Schema, doc: str) -> Schema:
    return {"type": "array", "items": items, "description": doc}


def _map(values: Schema, doc: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": doc}


def _ref(name: str, doc: str) -> Schema:
    return {"$ref": f"#/$defs/{name}", "description": doc}


_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}

ANSWER = _object(
    {
        "question": _of("string", "The question."),
        "images": _list(_TEXT, "Names of the images, as given; `-` is standard input, `scan.pdf#3` a page."),
        "text": _of("string", "The answer, without stop tokens and stop texts."),
        "hd": _of("integer", "HD-n: most tiles an image was allowed."),
        "partition": _of("string", "Partition rule: original, native or fit."),
        "grids": _list(_list(_COUNT, "Rows and columns."), "Tiles of each image: [rows, columns]."),
        "image_tokens": _list(_COUNT, "Tokens of each image, overview, separator and newlines included."),
        "prompt_tokens": _of("integer", "Tokens of the whole prompt, images included."),
        "new_tokens": _of("integer", "Tokens generated, the stop token not counted."),
    },
    {"seconds": _of("number", "Seconds from images to text, without loading the model; not in `ixc read`.")},
    doc="One answer.",
)

_PAGE = _object(
    {"file": _of("string", "Path of the document."), "page": _of("integer", "Page, from 1; 1 for an image.")},
    {
        "answers": _list(_ref("answer", ""), "One answer a question; missing where the page failed."),
        "error": _of("string", "Why the page was not read; only then."),
        "warnings": _list(_TEXT, "Contents of the page that the model did not receive; only where there are any."),
    },
    doc="One page of a document.",
)

_ROW = _object(
    {
        "name": _of("string", "Name of the group."),
        "percent": _of("number", "Exact matches, %."),
        "low": _of("number", "Lower end of the 95 % interval, %."),
        "high": _of("number", "Upper end, %."),
        "count": _of("integer", "Questions."),
    },
    doc="Score of a group.",
)

_GROUPS = _map(_list(_ref("group", ""), "Rows."), "Title of a part of the table -> its rows.")

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Output of the commands of ixc with --json",
    "$defs": {
        "answer": ANSWER,
        "page": _PAGE,
        "group": _ROW,
        "documents": _object(
            {
                "questions": _list(_TEXT, "Questions asked about every page."),
                "pages": _list(_ref("page", ""), "Pages in the order of the files."),
            },
            doc="Answers about the pages of documents.",
        ),
        "read_plan": _object(
            {
                "files": _of("integer", "Documents."),
                "pages": _of("integer", "Pages."),
                "unreadable": _of("integer", "Pages of these that cannot be opened."),
                "rows": _of("integer", "Answers: pages times questions."),
                "tiles": _of("integer", "Tiles of all pages, overviews included."),
                "image_tokens": _of("integer", "Tokens of all pages, each once."),
                "prompt_tokens": _of("integer", "Tokens of all prompts; those of the questions from above."),
                "too_long": _of("integer", "Pages that do not fit the model's positions."),
                "flops": _of("integer", "FLOP of the prefills, each page once."),
                "weight_bytes": _of("integer", "Bytes of the weights."),
            },
            doc="Cost of reading documents.",
        ),
        "plan": _object(
            {
                "model": _of("string", "Model planned for: its folder, or the published 7B."),
                "width": _of("integer", "Width of the image, px."),
                "height": _of("integer", "Height of the image, px."),
                "hd": _of("integer", "HD-n: most tiles."),
                "rule": _of("string", "Partition rule."),
                "grid_h": _of("integer", "Rows of tiles."),
                "grid_w": _of("integer", "Columns of tiles."),
                "tiles": _of("integer", "Tiles without the overview."),
                "image_tokens": _of("integer", "Tokens of the image."),
                "prompt_tokens": _of("integer", "Tokens of the prompt."),
                "positions": _of("integer", "Positions of the model."),
                "fits": _of("boolean", "Whether the prompt has no more tokens than the model has positions."),
                "flops": _map({"type": "number"}, "Part of the prefill -> FLOP."),
                "dtype": _of("string", "Number type of the weights."),
                "weight_bytes": _of("integer", "Bytes of the weights."),
                "folded_bytes": _null("integer", "Bytes of a second copy with PLoRA merged; null where there is none."),
                "kv_bytes": _of("integer", "Bytes of the prompt's keys and values."),
                "activation_bytes": _of("integer", "Bytes of activations at the widest point, a lower bound."),
            },
            doc="Cost of a setting; further keys are the fields of the partition, px.",
        ),
        "train_plan": _object(
            {
                "name": _of("string", "Name of the recipe."),
                "parts": _map({"type": "object"}, "Part of the model -> weights that learn, and all."),
                "groups": _list({"type": "object"}, "Groups of weights: name, rate, weight_decay, weights."),
                "memory": _list({"type": "object"}, "Items of a device's memory, bytes."),
                "needed": _of("number", "Bytes needed on one device."),
                "gpus": _of("integer", "Devices."),
                "gpu_memory": _null("number", "Memory of one device, bytes."),
                "fits": {"type": ["boolean", "null"], "description": "Whether it fits."},
            },
            doc="What a training run would do.",
        ),
        "data_report": _object(
            {
                "hd": _of("integer", "HD-n the records were measured at."),
                "context": _of("integer", "Most tokens of a record."),
                "records": _of("integer", "Records read."),
                "usable": _of("integer", "Records that can be trained on."),
                "images": _of("integer", "Images."),
                "tiles": _of("integer", "Tiles of the images."),
                "labels": _of("integer", "Tokens that are learned."),
                "problems": _list({"type": "object"}, "Problems: where and message."),
                "tokens": _map({"type": "object"}, "HD-n -> length of the records in tokens, with a histogram."),
            },
            doc="Result of checking a file of conversations.",
        ),
        "synthetic_scores": _object(
            {"groups": _GROUPS, "cases": _list({"type": "object"}, "Questions with their answers.")},
            doc="Exact match on drawn documents.",
        ),
        "page_scores": _object(
            {
                "images": _of("integer", "Pictures asked about."),
                "failed": _of("integer", "Questions without an answer."),
                "groups": _GROUPS,
                "cases": _list({"type": "object"}, "Questions with their answers."),
            },
            doc="Exact match on pictures of real pages.",
        ),
        "benchmark_scores": _list(
            _object(
                {"task": _of("string", "Benchmark."), "file": _of("string", "File of the predictions.")},
                {
                    "headline": _null("number", "Score."),
                    "name": _of("string", "Name of the score."),
                    "unit": _of("string", "Unit of the score."),
                    "paper": _null("number", "The paper's score."),
                    "answered": _of("integer", "Questions with an answer."),
                    "failed": _of("integer", "Questions without one."),
                    "failures": _list({"type": "object"}, "Reasons."),
                    "note": _of("string", "Why there is no score."),
                    "submission": _null("string", "File for the benchmark's server."),
                },
                doc="One benchmark.",
            ),
            "One object a benchmark.",
        ),
        "doctor": _object(
            {
                "ok": _of("boolean", "Whether every command that needs no extra works."),
                "versions": _map(_TEXT, "Python and the libraries every command needs -> version."),
                "devices": _list({"type": "object"}, "Devices: name, memory_bytes."),
                "kernels": _list(_ref("check", ""), "Ways to compute attention and matrix products."),
                "engines": _list(_ref("check", ""), "What `ixc serve` can serve with."),
                "commands": _list(_ref("check", ""), "What a command or option needs besides the base."),
                "problems": _list(_TEXT, "What keeps the base from working."),
            },
            doc="What this installation can do.",
        ),
        "check": _object(
            {
                "name": _of("string", "What is checked."),
                "usable": _of("boolean", "Whether it can be used here."),
                "detail": _of("string", "Version found, or what is missing."),
            },
            {"remedy": _of("string", "Command that brings what is missing; only then.")},
            doc="One line of `ixc doctor`.",
        ),
    },
}

COMMANDS = {
    "ask": "answer",
    "chat": "answer",
    "read": "documents",
    "read --dry-run": "read_plan",
    "plan": "plan",
    "plan-train": "train_plan",
    "data check": "data_report",
    "eval run": "benchmark_scores",
    "eval score": "benchmark_scores",
    "eval synth": "synthetic_scores",
    "eval pages": "page_scores",
    "doctor": "doctor",
}
"""Command -> name of its output in `SCHEMA["$defs"]`; `ixc chat` prints one line a turn."""


def answer_object(question: str, images: list[str], fields: dict[str, Any]) -> dict[str, Any]:
    """Return the `answer` of the schema.

    Args:
        question: as asked.
        images: their names.
        fields: of `Answer.as_dict`.
    """
    return {"question": question, "images": images, **fields}
