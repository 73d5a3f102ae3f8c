"""What 8 and 4 bits cost the embedded model, as benchmarks/small_weights_nano_202611.json.

    python dev/small_weights.py RUN.jsonl [DOCUMENTS]

The documents of `ixc eval synth`, each drawn and looked at once, the same questions asked of float32, 8 and 4 bits (and
of 4 bits with the head in 8); differences with a paired cluster bootstrap over documents. A line of RUN holds a page
and its answers; an interrupted run goes on behind the last one.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ixc.evals.intervals import RESAMPLES, Unit, compare
from ixc.evals.synthetic import SyntheticCase, ask
from ixc.inference.engine import Engine, load
from ixc.inference.model_folder import EMBEDDED
from ixc.model.quantization.convert import quantize
from ixc.model.quantization.layers import QuantizedLinear, quantize_weight

RESULT = Path(__file__).parents[1] / "benchmarks" / "small_weights_nano_202611.json"
DOCUMENTS = 300
"""Asked by default."""
KINDS = ("float32", "8", "4", "4, head 8")
"""Who is asked."""


def engines() -> dict[str, Engine]:
    """All of `KINDS`, with one tower and one store of its features."""
    found = {"float32": load(EMBEDDED, device="cpu")}
    with tempfile.TemporaryDirectory() as scratch:
        for bits in (8, 4):
            found[str(bits)] = load(quantize(EMBEDDED, Path(scratch) / str(bits), bits=bits), device="cpu")
        found["4, head 8"] = load(Path(scratch) / "4", device="cpu")
    found["4, head 8"].model.output = _small(found["float32"].model.output, 8)
    first = found["float32"]
    for engine in found.values():
        engine.generator.tiles = first.generator.tiles
        for name, part in first.model.model.named_children():
            if name != "language_model":
                setattr(engine.model.model, name, part)
        for name, part in first.model.model.named_parameters(recurse=False):
            setattr(engine.model.model, name, part)
    return found


def _small(linear: Any, bits: int) -> QuantizedLinear:
    made = QuantizedLinear(linear.in_features, linear.out_features, bits=bits, group_size=32)
    made.load_state_dict(quantize_weight(linear.weight, bits=bits, group_size=32), assign=True)
    return made


def answers(found: dict[str, Engine], said: list[list[str]]) -> Callable[[Image.Image, str, int], str]:
    """float32's answer for `ask`; everybody's go to `said`."""

    def reply(image: Image.Image, question: str, hd: int) -> str:
        said.append([found[kind].ask([image], question, hd=hd).text.strip() for kind in KINDS])
        return said[-1][0]

    return reply


def asked(keep: Path, count: int) -> Iterator[dict[str, list[SyntheticCase]]]:
    """Cases of every kind, page after page."""
    lines = keep.read_text().splitlines() if keep.exists() else []
    for line in lines[:count]:
        yield {kind: [SyntheticCase(**case) for case in cases] for kind, cases in json.loads(line).items()}
    found = engines() if len(lines) < count else {}
    for index in range(len(lines), count):
        said: list[list[str]] = []
        cases = ask(answers(found, said), index)
        page = {
            kind: [
                replace(case, prediction=texts[place], right=texts[place] == case.answer)
                for case, texts in zip(cases, said, strict=True)
            ]
            for place, kind in enumerate(KINDS)
        }
        with keep.open("a") as file:
            file.write(json.dumps({kind: [asdict(case) for case in cases] for kind, cases in page.items()}) + "\n")
        print(f"\r{index + 1} of {count}", end="", file=sys.stderr)
        yield page


def difference(pages: list[dict[str, list[SyntheticCase]]], kind: str, *, own: bool) -> dict[str, Any]:
    """One row of the table."""

    def chosen(page: dict[str, list[SyntheticCase]], kind: str) -> list[SyntheticCase]:
        return [case for case in page[kind] if case.hd == case.drawn_for or not own]

    def units(kind: str) -> list[Unit]:
        groups = [chosen(page, kind) for page in pages]
        return [Unit(sums=(float(sum(case.right for case in group)),), counts=(float(len(group)),)) for group in groups]

    pairs = [pair for page in pages for pair in zip(chosen(page, "float32"), chosen(page, kind), strict=True)]
    found = compare(units("float32"), units(kind), [(float(a.right), float(b.right)) for a, b in pairs])
    return {
        "bits": kind,
        "cases": "own HD" if own else "all HD",
        "documents": len(pages),
        "answers": len(pairs),
        "exact_float": 100 * sum(a.right for a, _ in pairs) / len(pairs),
        "exact_small": 100 * sum(b.right for _, b in pairs) / len(pairs),
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        "same_text": 100 * sum(a.prediction == b.prediction for a, b in pairs) / len(pairs),
        "only_float_right": found.only_first,
        "only_small_right": found.only_second,
    }


def main() -> None:
    """Asks, compares, writes."""
    pages = list(asked(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else DOCUMENTS))
    rows = [difference(pages, kind, own=own) for kind in KINDS[1:] for own in (True, False)]
    about = {"model": "embedded", "method": f"paired bootstrap over documents, {RESAMPLES} resamples, 95 %"}
    RESULT.write_text(json.dumps({**about, "differences": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
