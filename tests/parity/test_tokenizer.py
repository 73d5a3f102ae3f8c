"""The published tokenizer against sentencepiece: frozen encodings, and the package itself where it is installed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixc.processing.plain_text import raw_ids
from ixc.processing.tokenization import IxcTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens" / "tokenizer"
MODEL = GOLDENS / "internlm2-tokenizer.model"


def test_tokenization_equals_the_frozen_encodings(published_tokenizer: IxcTokenizer) -> None:
    cases = json.loads((GOLDENS / "encodings.json").read_text())
    assert [c["text"] for c in cases if raw_ids(published_tokenizer, c["text"]) != c["ids"]] == []
    assert [c["text"] for c in cases if published_tokenizer.decode(c["ids"]) != c["decoded"]] == []


def test_tokenization_saved_tokenizer_is_the_same(published_tokenizer: IxcTokenizer, tmp_path: Path) -> None:
    published_tokenizer.save_pretrained(tmp_path)
    again = IxcTokenizer.from_pretrained(tmp_path)
    cases = json.loads((GOLDENS / "encodings.json").read_text())
    assert [c["text"] for c in cases if raw_ids(again, c["text"]) != c["ids"]] == []
    assert again("</s>").input_ids == published_tokenizer("</s>").input_ids


ODD = st.text(st.sampled_from(" \n\r\t\0▁—…aAeＥｅ.,'é中文的😀0123456789<>[]_/s"), max_size=60)
TAGGED = st.lists(st.sampled_from(["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_14", "</s>", "——", "  ", "x"]), max_size=8)


@settings(deadline=None, max_examples=300)
@given(text=st.one_of(st.text(max_size=60), ODD, TAGGED.map("".join), st.integers(1, 90).map(lambda n: " " * n)))
def test_raw_ids_equal_sentencepiece(published_tokenizer: IxcTokenizer, text: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    oracle = _oracle(sentencepiece)
    ids = oracle.encode(text)
    assert raw_ids(published_tokenizer, text) == ids
    assert published_tokenizer.decode(ids) == oracle.decode(ids)


_ORACLES: dict[str, object] = {}


def _oracle(sentencepiece):
    if "oracle" not in _ORACLES:
        _ORACLES["oracle"] = sentencepiece.SentencePieceProcessor(str(MODEL))
    return _ORACLES["oracle"]
