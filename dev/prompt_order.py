"""Right answers of the embedded model in six forms of one question; writes benchmarks/prompt_order_nano_202611.json.

    python dev/prompt_order.py

60 held-out drawn pages, one question each, at the page's own HD, as a client's messages through the light server's
preparation: image first, text first, image between two halves of the text, each with and without a system message;
first with the turn rules of the model (`core/turn_rules.py`), then with the messages as given.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image as Picture

from ixc.core.chat_format import Image, Message, Segment
from ixc.core.prompt_format import CHAT_FORMAT, prompt_segments
from ixc.core.turn_rules import AS_GIVEN, TurnRules
from ixc.evals.synthetic import held_out
from ixc.inference.engine import Engine, load
from ixc.processing.image_io import to_rgb
from ixc.synth.render import paint
from ixc.utils import files

RESULT = Path(__file__).parents[1] / "benchmarks/prompt_order_nano_202611.json"
PAGES = 60
"""Held-out pages, from the first one on."""
SYSTEM = "You are a helpful assistant."
"""The system message of most clients' examples."""
ORDERS = ("image first", "text first", "image between")


def messages(picture: Picture, question: str, order: str, *, system: bool) -> list[Message]:
    """Write one question in one of the forms."""
    words, image = question.split(" "), Image(picture)
    half = len(words) // 2
    parts: dict[str, Sequence[str | Image]] = {
        "image first": (image, question),
        "text first": (question, image),
        "image between": (" ".join(words[:half]), image, " ".join(words[half:])),
    }
    turn = Message("user", tuple(part for part in parts[order] if part != ""))
    return [Message("system", (SYSTEM,)), turn] if system else [turn]


def answer(engine: Engine, prompt: Sequence[Segment], hd: int) -> str:
    """Answer one prompt, greedily."""
    request = engine.preparer.prepare_segments(prompt, hd=hd)
    output: torch.Tensor = engine.generate(request.inputs, max_new_tokens=request.max_new_tokens, hd=hd)
    return engine.preparer.answer(request, output[0, request.prompt_tokens :].tolist(), seconds=0.0).text


def count(engine: Engine, rules: TurnRules) -> dict[str, int]:
    """Count the right answers of every form."""
    found = {f"{order}, {kind} system message": 0 for order in ORDERS for kind in ("no", "with a")}
    for index in range(PAGES):
        page, question = held_out(index)
        picture = to_rgb(paint(page))
        for order in ORDERS:
            for system in (False, True):
                said = messages(picture, question.question, order, system=system)
                prompt = prompt_segments(said, CHAT_FORMAT, system=engine.processor.system, rules=rules)
                name = f"{order}, {'with a' if system else 'no'} system message"
                found[name] += answer(engine, prompt, page.hd) == question.answer
    return found


def main() -> int:
    """Ask all forms and write the counts."""
    engine = load(device="cpu")
    rules = engine.processor.rules
    result = {
        "pages": PAGES,
        "arranged": count(engine, rules),
        "as given": count(engine, AS_GIVEN),
    }
    files.atomic_write(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
