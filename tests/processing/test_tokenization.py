"""The character tokenizer, and a person's text that cannot forge anything in either tokenizer."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ixc.errors import WeightsError
from ixc.processing.plain_text import MARKER, broken, plain_ids, raw_ids
from ixc.processing.tokenization import (
    CHARACTER_VOCABULARY,
    PHRASES,
    IxcTokenizer,
    character_tokenizer,
    sentencepiece_backend,
)

MARKERS = ["[UNUSED_TOKEN_146]", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_140]", "<ImageHere>", "<s>", "</s>", "<unk>"]
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([*MARKERS, "[UNUSED_TOKEN", "_145]", "[", "<", "\n", "user\n", "assistant\n", *PHRASES]),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)
PRINTABLE = st.text(st.sampled_from("\n" + "".join(map(chr, range(32, 127)))), max_size=40)


@pytest.fixture(scope="module")
def characters() -> PreTrainedTokenizerBase:
    return character_tokenizer()


def test_character_vocabulary_never_changes(characters: PreTrainedTokenizerBase) -> None:
    """Weights depend on these ids: a failure here is a broken model, not a test to adapt."""
    ids = {"<unk>": 0, "<s>": 1, "</s>": 2, "\n": 3, " ": 4, "A": 37, "a": 69, "~": 98, "system": 99, "user": 100}
    ids |= {"assistant": 101, "<ImageHere>": 102, "[UNUSED_TOKEN_146]": 103, "[UNUSED_TOKEN_145]": 104}
    ids |= {"What is the value of ": 105, " of ": 113, "title": 115, "When ": 127}
    assert {piece: CHARACTER_VOCABULARY.index(piece) for piece in ids} == ids
    assert len(characters) == len(CHARACTER_VOCABULARY) == 128
    assert characters.convert_tokens_to_ids(list(CHARACTER_VOCABULARY)) == list(range(128))
    assert (characters.pad_token_id, characters.eos_token_id, characters.bos_token_id) == (2, 2, 1)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("What is the Total?", ["What is the ", *"Total?"]),
        ("What is the value of total", ["What is the value of ", "total"]),
        ("line 3 of x", ["line ", "3", " of ", "x"]),
        ("é中\t", ["<unk>"] * 3),
        ("</s><s>", list("</s><s>")),
        ("[UNUSED_TOKEN_146]user\nuser\n", ["[UNUSED_TOKEN_146]", "user", "\n", *"user\n"]),
        ("[UNUSED_TOKEN_145]\n<ImageHere>", ["[UNUSED_TOKEN_145]", "\n", "<ImageHere>"]),
    ],
)
def test_character_tokenizer_characters_and_phrases(
    characters: PreTrainedTokenizerBase, text: str, pieces: list[str]
) -> None:
    assert characters.convert_ids_to_tokens(characters(text).input_ids) == pieces


@given(text=st.lists(st.one_of(PRINTABLE, st.sampled_from(PHRASES)), max_size=4).map("".join))
def test_character_tokenizer_decodes_to_the_text(characters: PreTrainedTokenizerBase, text: str) -> None:
    assert characters.decode(raw_ids(characters, text)) == text
    assert characters.decode(plain_ids(characters, text)) == text


def test_character_tokenizer_survives_saving(characters: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    characters.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "[UNUSED_TOKEN_146]user\nWhat is the title?</s>[UNUSED_TOKEN_145]\n"
    assert again(text).input_ids == characters(text).input_ids
    assert (again.pad_token_id, again.padding_side) == (2, "left")


@given(HOSTILE)
def test_broken_text_holds_no_marker(text: str) -> None:
    assert "".join(broken(text)) == text
    assert not any(MARKER.search(part) for part in broken(text))
    assert MARKER.search(text) or broken(text) == ([text] if text else [])


@settings(deadline=None)
@given(text=HOSTILE)
def test_plain_ids_forge_no_tag_in_characters(characters: PreTrainedTokenizerBase, text: str) -> None:
    ids = plain_ids(characters, text)
    assert not {1, 2, 102, 103, 104} & set(ids)
    if all(char == "\n" or " " <= char <= "~" for char in text):
        assert characters.decode(ids) == text


@settings(deadline=None, max_examples=200)
@given(text=HOSTILE)
def test_plain_ids_forge_no_tag_in_the_published_tokenizer(published_tokenizer: IxcTokenizer, text: str) -> None:
    ids = plain_ids(published_tokenizer, text)
    assert not {1, 2, *range(92397, 92544)} & set(ids)  # <s>, </s>, every [UNUSED_TOKEN_n]
    # As sentencepiece: its visible space is a space.
    assert published_tokenizer.decode(ids) == text.replace("\u2581", " ")
    if not MARKER.search(text):
        assert ids == raw_ids(published_tokenizer, text)


def test_ixc_tokenizer_call_puts_one_bos_in_front(published_tokenizer: IxcTokenizer) -> None:
    assert published_tokenizer("hello").input_ids == [1, 15115]
    assert published_tokenizer("hello", add_special_tokens=False).input_ids == [15115]
    assert (published_tokenizer.pad_token_id, published_tokenizer.padding_side) == (2, "left")
    assert len(published_tokenizer) == 92544


def _message(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([number << 3 | 2, len(value)]) + value for number, value in fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        _message((1, _message((1, b"only"))))[:-1],
        _message((1, _message((1, b"only")))),
        _message((1, b"\x15" + struct.pack("<f", 1.0))),
        b"\x0b",
        b"\xff" * 5,
    ],
)
def test_sentencepiece_backend_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tokenizer\.model"):
        sentencepiece_backend(path)
