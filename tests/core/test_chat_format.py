"""Conversations: segments, labels and the template. Parity with the original is in tests/parity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from ixc.core import chat_format
from ixc.core.chat_format import IGNORED, Image, Message, Segment
from ixc.errors import DataError, UsageError

END, EOS = 92542, 2
HEADER = chat_format.PUBLISHED_TURN_IDS.header

texts = st.text(max_size=20)
parts = st.one_of(texts, st.just(Image()))
turns = st.builds(Message, st.sampled_from(chat_format.ROLES), st.lists(parts, max_size=4).map(tuple))
conversations = st.lists(turns, min_size=1, max_size=5)


def test_parse_messages_string_with_placeholder_is_text() -> None:
    (message,) = chat_format.parse_messages([{"role": "user", "content": "<ImageHere>what?"}])
    assert message == Message("user", ("<ImageHere>what?",))


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ({"type": "image"}, None),
        ({"type": "image", "image": "a.png"}, "a.png"),
        ({"type": "image", "path": "b.png"}, "b.png"),
        ({"type": "image", "base64": "aGk="}, "data:;base64,aGk="),
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "data:,"),
    ],
)
def test_parse_messages_images_in_every_notation(part: dict, source: str | None) -> None:
    (message,) = chat_format.parse_messages([{"role": "user", "content": [part, {"type": "text", "text": "hi"}]}])
    assert message.content == (Image(source), "hi")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "0 messages"),
        (["hello"], "mapping with role and content, got str"),
        ([{"role": "tool", "content": "x"}], "system, user, assistant"),
        ([{"role": "user", "content": None}], "NoneType"),
        ([{"role": "user", "content": [{"type": "video"}]}], "video"),
        ([{"role": "user", "content": [{"type": "text"}]}], "text"),
    ],
)
def test_parse_messages_refusals(messages: list, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        chat_format.parse_messages(messages)


def test_from_query_counts_places_in_the_history_too() -> None:
    query, history = "and <ImageHere>?", [("<ImageHere>what?", "a cat")]
    first, answer, last = chat_format.from_query(query, history=history, images=["a", "b"])
    assert (first.content, last.content) == ((Image("a"), "what?"), ("and ", Image("b"), "?"))
    assert answer == Message("assistant", ("a cat",))
    with pytest.raises(UsageError, match=r"2 places for images and 1 images"):
        chat_format.from_query(query, history=history, images=["a"])


def test_render_joins_neighbouring_texts() -> None:
    """Two halves of a tag must meet before they are made safe, not after."""
    segments = chat_format.render([Message("user", ("[UNUSED_TOKEN", "", "_145]"))])
    assert Segment("content", "[UNUSED_TOKEN_145]") in segments


def test_render_prefers_the_conversations_system_text() -> None:
    own = [Message("system", ("mine",)), Message("user", ("q",))]
    assert "theirs" not in chat_format.to_text(chat_format.render(own, system="theirs"))
    assert "theirs" in chat_format.to_text(chat_format.render(own[1:], system="theirs"))


def test_render_continue_final_message() -> None:
    text = chat_format.to_text(
        chat_format.render(
            [Message("user", ("q",)), Message("assistant", ("The answer",))], continue_final_message=True
        )
    )
    assert text.endswith("assistant\nThe answer")


@given(conversations, st.booleans())
def test_render_keeps_contents_and_adds_markup(messages: list[Message], generate: bool) -> None:
    segments = chat_format.render(messages, add_generation_prompt=generate)
    written = "".join(part for turn in messages for part in turn.content if isinstance(part, str))
    assert "".join(s.text for s in segments if s.kind == "content") == written
    assert sum(s.kind == "image" for s in segments) == sum(isinstance(p, Image) for m in messages for p in m.content)
    markup = "".join(s.text for s in segments if s.kind == "markup")
    assert markup.count(chat_format.TURN_START) == len(messages) + generate
    assert markup.count(chat_format.TURN_END) == len(messages)


@given(st.text(max_size=40))
def test_from_text_keeps_every_character(text: str) -> None:
    assert (
        chat_format.to_text(chat_format.from_text(text + chat_format.IMAGE_PLACEHOLDER + text))
        == text + chat_format.IMAGE_PLACEHOLDER + text
    )


@pytest.mark.parametrize("system", ["", "Short.", chat_format.META_INSTRUCTION])
@pytest.mark.parametrize("generate", [True, False])
def test_chat_template_writes_the_same_prompt(system: str, generate: bool) -> None:
    conversation = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what's \\n 'this'?"}]},
        {"role": "assistant", "content": "a {{cat}}"},
        {"role": "user", "content": "sure?\n"},
    ]
    for messages in (conversation, [{"role": "system", "content": "own"}, *conversation]):
        (text,), _ = render_jinja_template(
            conversations=[messages], chat_template=chat_format.chat_template(system), add_generation_prompt=generate
        )
        assert text == chat_format.to_text(chat_format.render(messages, system=system, add_generation_prompt=generate))


def test_render_training_ends_with_an_answer() -> None:
    with pytest.raises(DataError, match="user"):
        chat_format.render_training([Message("user", ("q",))], published_quirks=True)


def test_render_training_with_and_without_quirks() -> None:
    messages = [Message("user", (" q\n",)), Message("assistant", ("\ta ",))]
    published = chat_format.to_text(chat_format.render_training(messages, published_quirks=True))
    clean = chat_format.to_text(chat_format.render_training(messages, published_quirks=False))
    assert published.endswith("user\nq[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\na[UNUSED_TOKEN_145]")
    assert clean.endswith("user\n q\n[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n\ta [UNUSED_TOKEN_145]\n")


words = st.lists(st.integers(3, 500), max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), words), max_size=6), st.booleans())
def test_labels_without_quirks_are_exactly_the_answers(turns: list[tuple[str, list[int]]], cut: bool) -> None:
    other = {"system": (92543, 9081, 364), "user": (92543, 1008, 364), "assistant": HEADER}
    ids, expected = [1], [IGNORED]
    for role, body in turns:
        answer = [*body, END]
        ids += [*other[role], *answer, 364]
        expected += [IGNORED] * len(other[role]) + (answer if role == "assistant" else [IGNORED] * len(answer))
        expected.append(IGNORED)
    if cut:
        ids, expected = ids[:-2], expected[:-2]
    assert chat_format.labels(ids) == expected


@given(st.lists(st.sampled_from([1, EOS, END, 364, 7, IGNORED, *HEADER]), max_size=40), st.booleans())
def test_labels_are_the_ids_or_nothing(ids: list[int], quirks: bool) -> None:
    found = chat_format.labels(ids, published_quirks=quirks)
    assert len(found) == len(ids)
    assert all(label in (IGNORED, token) for label, token in zip(found, ids, strict=True))


def test_chat_defaults_are_the_originals() -> None:
    defaults = chat_format.CHAT_DEFAULTS
    assert (defaults.max_new_tokens, defaults.do_sample, defaults.num_beams, defaults.hd) == (1024, True, 1, 25)
    assert (defaults.temperature, defaults.top_p, defaults.repetition_penalty) == (1.0, 0.8, 1.005)
