"""Turn rules: six forms of one question become one, and what must stay stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_chat_format import conversations

from ixc.core.chat_format import Image, Message, from_query
from ixc.core.turn_rules import AS_GIVEN, TurnRules, arrange

UNTAUGHT = TurnRules(system_turns=False)
A, B = Image("a"), Image("b")
SYSTEM = Message("system", ("Be brief.",))


def user(*content: str | Image) -> Message:
    return Message("user", content)


@pytest.mark.parametrize("system", [[], [SYSTEM], [SYSTEM, SYSTEM]])
@pytest.mark.parametrize(
    "turns",
    [
        [user(A, "What is the TOTAL?")],
        [user("What is the TOTAL?", A)],
        [user("What is the ", A, "TOTAL?")],
        [user("What is the", A, "TOTAL?")],
        [user("What is the TOTAL?"), user(A)],
        [user(A), user("What is the TOTAL?")],
    ],
)
def test_arrange_gives_one_form(system: list[Message], turns: list[Message]) -> None:
    assert arrange([*system, *turns], UNTAUGHT) == [user(A, "What is the TOTAL?")]
    assert arrange([*system, *turns], TurnRules()) == [*system, user(A, "What is the TOTAL?")]


def test_arrange_keeps_the_order_of_images() -> None:
    assert arrange([user("Which is larger?", A, B)], UNTAUGHT) == [user(A, B, "Which is larger?")]


@pytest.mark.parametrize(
    "content",
    [
        ("Before:", A, "After:", B, "What changed?"),
        (A, "is from May,", B),
        ("Compare the image above with the picture below.", A, B),
        ("What do the following two images share?", A, B),
    ],
)
def test_arrange_leaves_images_that_the_text_places(content: tuple[str | Image, ...]) -> None:
    assert arrange([user(*content)], UNTAUGHT) == [user(*content)]


def test_arrange_moves_the_only_image_whatever_the_text_says() -> None:
    assert arrange([user("Read the image below.", A)], UNTAUGHT) == [user(A, "Read the image below.")]


def test_arrange_leaves_a_place_written_in_a_query() -> None:
    messages = from_query("What is <ImageHere>?", images=["a"])
    assert arrange(messages, UNTAUGHT) == messages


def test_arrange_each_turn_for_itself() -> None:
    answer = Message("assistant", ("12",))
    found = arrange([user("One?", A), answer, user("Two?", B)], UNTAUGHT)
    assert found == [user(A, "One?"), answer, user(B, "Two?")]


def test_arrange_joins_two_user_turns_with_a_line_break() -> None:
    assert arrange([user("One."), SYSTEM, user("Two?")], UNTAUGHT) == [user("One.", "\n", "Two?")]


def test_arrange_keeps_a_system_turn_with_an_image_and_one_alone() -> None:
    shown = Message("system", (A, "Look."))
    assert arrange([shown, user("What?")], UNTAUGHT) == [shown, user("What?")]
    assert arrange([SYSTEM], UNTAUGHT) == [SYSTEM]


@given(conversations, st.booleans())
def test_arrange_loses_nothing_and_is_stable(messages: list[Message], system_turns: bool) -> None:
    rules = TurnRules(system_turns=system_turns)
    found = arrange(messages, rules)
    assert arrange(found, rules) == found
    assert arrange(messages, AS_GIVEN) == messages
    images = [part for turn in messages for part in turn.content if isinstance(part, Image)]
    assert [part for turn in found for part in turn.content if isinstance(part, Image)] == images
    kept = [turn for turn in messages if system_turns or turn.role == "user"]
    letters = sum(len(part.split()) and 1 for turn in kept for part in turn.content if isinstance(part, str))
    assert letters == 0 or any(isinstance(part, str) and part.strip() for turn in found for part in turn.content)
