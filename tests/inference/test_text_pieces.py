"""Text while its tokens are generated: equal to decoding the whole answer, at a cost linear in its length."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ixc.inference.model_folder import EMBEDDED, read_processor
from ixc.inference.text_pieces import TextDecoder, text_pieces
from ixc.processing.tokenization import IxcTokenizer

PUBLISHED = Path(__file__).parents[1] / "goldens" / "tokenizer" / "internlm2-tokenizer.model"

WORDS = ("a", " ", "  ", "\n", "\t", "hello", " world", "文字", "。", "한", "é", "ﷺ", "🙂", "𝔘", "👩‍👩‍👧", "12,345.67")
"""Texts of one token, of several, and characters of up to 18 byte tokens."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> IxcTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(PUBLISHED.read_bytes())
    return IxcTokenizer.from_pretrained(folder)


def test_text_pieces_equal_the_decoded_sequence_of_the_published_tokenizer(published: IxcTokenizer) -> None:
    def decode(ids: list[int]) -> str:
        return published.decode(ids, skip_special_tokens=True)

    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices(WORDS, k=rng.randrange(1, 30)))
        ids = published(text, add_special_tokens=False).input_ids
        pieces = list(text_pieces(iter(ids), decode=decode))
        assert "".join(pieces) == decode(ids)
        assert not any("\ufffd" in piece or not piece for piece in pieces)


def test_text_pieces_equal_the_decoded_sequence_of_the_embedded_tokenizer() -> None:
    processor = read_processor(EMBEDDED)
    rng = random.Random(0)
    for _ in range(300):  # any ids: also control tokens, and stop tokens, behind which nothing is text
        ids = rng.choices(range(len(processor.tokenizer)), k=rng.randrange(1, 40))
        assert "".join(text_pieces(iter(ids), decode=processor.decode_answer)) == processor.decode_answer(ids)


def test_text_decoder_waits_for_a_whole_character() -> None:
    decoder = TextDecoder(lambda ids: bytes(ids).decode(errors="replace"))
    assert [decoder.add(byte) for byte in "é🙂!".encode()] == ["", "é", "", "", "", "🙂", "!"]
    assert decoder.finish() == ""
    assert [decoder.add(byte) for byte in "🙂".encode()[:2]] == ["", ""]
    assert decoder.finish() == "\ufffd"


def test_text_decoder_decodes_only_new_tokens() -> None:
    processor, decoded = read_processor(EMBEDDED), 0

    def decode(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return processor.decode_answer(ids)

    ids = processor.tokenizer("Total 641.57 of Galtan Tools; " * 200, add_special_tokens=False).input_ids[:2000]
    assert len(ids) == 2000
    assert "".join(text_pieces(iter(ids), decode=decode)) == processor.decode_answer(ids)
    assert decoded <= 4 * len(ids), "the cost is not linear: decoding everything for every token is 1,000 ids a token"
