"""CPU time of decoding a streamed answer: all tokens for every token (until November 2026) against new tokens only.

PYTHONPATH=src python dev/streaming_cost.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

from ixc.inference.model_folder import EMBEDDED, read_processor
from ixc.inference.text_pieces import text_pieces
from ixc.processing.tokenization import IxcTokenizer

MODEL = Path(__file__).parents[1] / "tests" / "goldens" / "tokenizer" / "internlm2-tokenizer.model"
TEXT = "The quick brown fox, 文字 and 🙂 numbers 12,345.67; " * 200
PLAIN = "Total 641.57 of Galtan Tools; " * 200
TOKENS = 2000
REPEATS = 3

Decode = Callable[[list[int]], str]


def decode_everything(tokens: Iterator[int], *, decode: Decode) -> Iterator[str]:
    """Yield the growing text as it was done before: quadratic in the length of the answer."""
    seen: list[int] = []
    shown = ""
    for token in tokens:
        seen.append(token)
        text = decode(seen)
        if text.startswith(shown) and len(text) > len(shown) and not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text


def cpu_seconds(pieces: Callable[..., Iterator[str]], ids: list[int], decode: Decode) -> float:
    """Return the least CPU seconds of `REPEATS` runs."""
    seconds = []
    for _ in range(REPEATS):
        start = process_time()
        for _ in pieces(iter(ids), decode=decode):
            pass
        seconds.append(process_time() - start)
    return min(seconds)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tokenizer.model").write_bytes(MODEL.read_bytes())
        published = IxcTokenizer.from_pretrained(folder)
    embedded = read_processor(EMBEDDED)
    cases: dict[str, tuple[list[int], Decode]] = {
        "published": (
            published(TEXT, add_special_tokens=False).input_ids,
            lambda ids: str(published.decode(ids, skip_special_tokens=True)),
        ),
        "embedded": (embedded.tokenizer(PLAIN, add_special_tokens=False).input_ids, embedded.decode_answer),
    }
    for name, (ids, decode) in cases.items():
        before = cpu_seconds(decode_everything, ids[:TOKENS], decode)
        after = cpu_seconds(text_pieces, ids[:TOKENS], decode)
        row = {"tokenizer": name, "tokens": TOKENS, "before_s": round(before, 3), "after_s": round(after, 4)}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
