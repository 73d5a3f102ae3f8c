"""Text and bytes of single tokens: joined they are the text that the whole answer decodes to, by both tokenizers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixc.inference.model_folder import EMBEDDED, read_processor
from ixc.inference.text_pieces import TextDecoder
from ixc.inference.token_text import TokenText
from ixc.processing.plain_text import plain_ids
from ixc.processing.tokenization import PAGE_VOCABULARY, IxcTokenizer, character_tokenizer

ODD = st.text(st.sampled_from(" \n\t—…aAeＥ.,'é中文字한ﷺ🙂𝔘👩\u200d0123456789<>[]_/sxF"), max_size=60)
TEXTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\u2581"), max_size=60), ODD)

PAGES = character_tokenizer(PAGE_VOCABULARY)


def published_decode(tokenizer: IxcTokenizer) -> Callable[[list[int]], str]:
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture(scope="module")
def published(published_tokenizer: IxcTokenizer) -> TokenText:
    return TokenText(published_tokenizer, published_decode(published_tokenizer))


@settings(deadline=None, max_examples=300)
@given(text=TEXTS, cut=st.integers(0, 200))
def test_token_text_bytes_are_the_answers_utf8_published(
    published: TokenText, published_tokenizer: IxcTokenizer, text: str, cut: int
) -> None:
    """Also of an answer that a limit cuts within a character: its last bytes are those of the part that came."""
    ids = plain_ids(published_tokenizer, text)
    joined = b"".join(published(token)[1] for token in ids)
    assert joined == text.encode() == published_decode(published_tokenizer)(ids).encode()
    decoder = TextDecoder(published_decode(published_tokenizer))
    shown = "".join(map(decoder.add, ids[:cut])) + decoder.finish()
    bytes_of_cut = b"".join(published(token)[1] for token in ids[:cut])
    assert text.encode().startswith(bytes_of_cut)
    whole = bytes_of_cut.decode(errors="ignore")
    assert shown.startswith(whole)
    assert set(shown[len(whole) :]) <= {"\ufffd"}


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, len(PAGES) - 1), max_size=40))
@pytest.mark.parametrize("kind", ["embedded", "pages"])
def test_token_text_bytes_are_the_answers_utf8_characters(kind: str, ids: list[int]) -> None:
    """Any ids: also role words, tags and control tokens, of which the last two are no text."""
    if kind == "embedded":
        processor = read_processor(EMBEDDED)
        tokenizer, decode = processor.tokenizer, processor.decode_answer
        stops = tuple(map(tokenizer.convert_tokens_to_ids, ("</s>", "[UNUSED_TOKEN_145]")))
        ids = [token % len(tokenizer) for token in ids if token % len(tokenizer) not in stops]
    else:
        tokenizer, decode = PAGES, lambda row: PAGES.decode(row, skip_special_tokens=True)
    named = TokenText(tokenizer, decode)
    assert b"".join(named(token)[1] for token in ids).decode() == decode(ids)


def test_token_text_of_parts_and_of_what_is_no_text(published: TokenText, published_tokenizer: IxcTokenizer) -> None:
    ids = plain_ids(published_tokenizer, "𝔘")
    assert [published(token) for token in ids] == [("\ufffd", bytes([byte])) for byte in "𝔘".encode()]
    (newline,) = plain_ids(published_tokenizer, "\n")
    assert published(newline) == ("\n", b"\n")
    assert published(2) == ("</s>", b"")
    world = plain_ids(published_tokenizer, "hello world")[-1]
    assert published(world) == (" world", b" world")  # with its space, which it has behind other text


def test_text_decoder_goes_on_behind_a_broken_character(published_tokenizer: IxcTokenizer) -> None:
    """The backend decodes a run of bytes that is not UTF-8 as a whole into one U+FFFD a byte, also what was shown."""
    decode = published_decode(published_tokenizer)
    good, broken = plain_ids(published_tokenizer, "𝔘"), plain_ids(published_tokenizer, "𝔘")[:1]
    decoder = TextDecoder(decode)
    assert "".join(map(decoder.add, good)) == "𝔘"
    assert decoder.add(broken[0]) == ""
    assert decoder.finish() == "\ufffd"
    decoder = TextDecoder(decode)
    after = plain_ids(published_tokenizer, "ok then")
    assert "".join(map(decoder.add, [*good, *broken, *after])) + decoder.finish() == "𝔘\ufffdok then"
