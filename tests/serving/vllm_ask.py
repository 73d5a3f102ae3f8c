"""Questions to vLLM and to our own engine, token by token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from talk import data_url

from ixc.inference.engine import load

ANSWER = 24
"""Tokens of an answer."""

STOPS = {2, 104}
"""Ids that end an answer of the embedded model and of the tests' tiny ones."""


@dataclass(frozen=True)
class Question:
    text: str
    sizes: tuple[tuple[int, int], ...] = ()
    hd: int | None = None
    partition: str | None = None

    def images(self) -> list[bytes]:
        return [page(size, number) for number, size in enumerate(self.sizes)]

    def body(self, *, model: str = "nano", **more: Any) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image)}} for image in self.images()
        ]
        tiling = {"hd": self.hd, "partition": self.partition}
        return {
            "model": model,
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": self.text}]}],
            "temperature": 0,
            "max_tokens": ANSWER,
            "return_token_ids": True,
            "mm_processor_kwargs": {key: value for key, value in tiling.items() if value is not None},
            **more,
        }


def page(size: tuple[int, int], number: int) -> bytes:
    """Lines of large text on a coloured ground."""
    image = Image.new("RGB", size, (250, 250 - 9 * number, 240))
    draw = ImageDraw.Draw(image)
    step = max(24, size[1] // 9)
    for line in range(size[1] // step):
        text = f"Item {line}: {size[0] * (line + 3) % 997}.{number}"
        draw.text((step, line * step), text, "black", font_size=step // 2)
    out = BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def tokens(answer: dict[str, Any]) -> list[int]:
    """Of vLLM's answer, without those that end it."""
    return [token for token in answer["choices"][0]["token_ids"] if token not in STOPS]


def own_tokens(folder: Path | None, questions: Iterable[Question]) -> list[list[int]]:
    """Of our own engine's answers, in order. None: the embedded model."""

    engine = load(folder, device="cpu")
    answers = []
    for question in questions:
        tiling = {"hd": question.hd, "partition": question.partition}
        request = engine.preparer.prepare(question.images(), question.text, **tiling, max_new_tokens=ANSWER)
        output = engine.generate(request.inputs, max_new_tokens=request.max_new_tokens, hd=request.hd)
        answers.append(engine.preparer.before_stop(output[0, request.prompt_tokens :].tolist()))
    return answers
