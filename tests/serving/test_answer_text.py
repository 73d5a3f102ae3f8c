"""Text on its way out: cut at the first stop text, with the entries of its tokens. Oracle: the whole text, searched."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixc.serving.answer_text import AnswerText
from ixc.serving.deltas import TokenLogprob

HEAD = '{"name": "ab", "arguments": '
LETTERS = st.text(st.sampled_from("abcé🙂"), max_size=4)


def run(pieces: list[str], stops: list[str], *, is_call: bool = False) -> tuple[list[str], bytes, bool]:
    """Feed pieces as a server does; return the texts that were taken, the joined bytes and whether a stop came."""
    found = AnswerText(stops, is_call=is_call)
    texts, data = [], b""
    for piece in pieces:
        found.add(piece, TokenLogprob(token=piece, bytes=piece.encode(), logprob=-1.0))
        if found.stopped:
            break
        text, entries = found.take()
        texts.append(text)
        data += b"".join(entry.bytes for entry in entries)
        assert "".join(texts).encode().startswith(data)  # no entry before its text
    text, entries = found.take(last=True)
    return [*texts, text], data + b"".join(entry.bytes for entry in entries), found.stopped


def cut(text: str, stops: list[str]) -> str:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


@settings(max_examples=500)
@given(pieces=st.lists(LETTERS, max_size=12), stops=st.lists(LETTERS.filter(bool), max_size=3))
def test_answer_text_is_cut_at_the_first_stop_text_with_its_entries(pieces: list[str], stops: list[str]) -> None:
    texts, data, stopped = run(pieces, stops)
    whole = "".join(pieces)
    # Of stop texts that end in one piece the first to begin counts; one that ends in an earlier piece comes first.
    fed = next((n for n in range(len(pieces) + 1) if any(stop in "".join(pieces[:n]) for stop in stops)), len(pieces))
    wanted = cut("".join(pieces[:fed]), stops)
    assert "".join(texts) == wanted
    assert data == wanted.encode()
    assert stopped == any(stop in whole for stop in stops)


@settings(max_examples=300)
@given(pieces=st.lists(LETTERS, max_size=8), stop=st.sampled_from(["a", "name", "ab", '"', "c"]))
def test_answer_text_of_a_call_is_searched_in_the_arguments(pieces: list[str], stop: str) -> None:
    whole = [HEAD[:5], HEAD[5:20], HEAD[20:], *pieces]
    texts, data, _ = run(whole, [stop], is_call=True)
    assert "".join(texts) == HEAD + cut("".join(pieces), [stop])
    assert data == "".join(texts).encode()


@pytest.mark.parametrize("last", ["", "\ufffd"])
def test_answer_text_keeps_the_entries_of_parts_of_characters(last: str) -> None:
    found = AnswerText(["stop"])
    for byte in "é".encode():
        found.add(
            "é" if byte == "é".encode()[-1] else "", TokenLogprob(token="\ufffd", bytes=bytes([byte]), logprob=0.0)
        )
    text, entries = found.take()
    assert (text, b"".join(entry.bytes for entry in entries)) == ("é", "é".encode())
    found.add(last, TokenLogprob(token="\ufffd", bytes=b"\xc3", logprob=0.0))
    text, entries = found.take(last=True)
    assert (text, [entry.bytes for entry in entries]) == (last, [b"\xc3"])
