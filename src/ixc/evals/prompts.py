"""Prompts: those behind the published numbers, verbatim, and clean ones. Spec (i).

A published prompt has the texts of VLMEvalKit's wrapper of this model: the image before the user's turn, no system
message (except MM-Vet), and runs of spaces from continued source lines. The spaces change the scores, so they are named
constants here. A clean prompt is a plain user message. Special tokens are written by `core.chat_format` alone, so a tag
in a cell of the data stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from ixc.core.chat_format import META_INSTRUCTION, Image, Message
from ixc.core.prompt_format import PromptFormat

Row = Mapping[str, Any]

BRIEFLY = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
IN_DETAIL = "Answer this question in detail."
PRIMED = "The answer is"
"""Prefix of the assistant's turn for multiple choice; the model continues with the letter."""

VQA_BLANKS = " " * 26
"""Spaces between the instruction and the question."""
VET_BLANKS = " " * 25
"""Spaces after MM-Vet's question, and in the header of its assistant turn."""
HALLUSION_BLANKS = " " * 15
"""Spaces after HallusionBench's question."""


IMAGE_TAG = re.compile(r"<image (\d+)>")
"""MMMU's tag of an image, from 1."""


@dataclass(frozen=True, kw_only=True)
class PublishedPrompt:
    """Texts of a published prompt; the image stands before all of them."""

    user: str
    """The user's turn."""
    system: str = ""
    """System message; "" for none."""
    answer: str = ""
    """Beginning of the answer, which the model continues; "" for none."""
    assistant: str = "assistant"
    """Role name in the header before the answer."""

    def messages(self, images: int) -> tuple[Message, ...]:
        """Return the turns; the sources of the images are 0 .. `images` - 1."""
        turns = [Message("user", (*map(Image, range(images)), self.user))]
        if self.system:
            turns.insert(0, Message("system", (self.system,)))
        if self.answer:
            turns.append(Message("assistant", (self.answer,)))
        return tuple(turns)

    @property
    def prompt_format(self) -> PromptFormat:
        """How the turns become a prompt."""
        return PromptFormat(published=True, continue_final_message=bool(self.answer), assistant=self.assistant)


def options(row: Row) -> dict[str, str]:
    """Return letter -> option text, for the letters whose cell is not missing."""
    return {letter: str(row[letter]) for letter in ascii_uppercase if row.get(letter) is not None}


# -- published --------------------------------------------------------------------------------------------------------


def published_choice(row: Row) -> PublishedPrompt:
    """Write question, context (the hint, or N/A) and options on one line each, with the answer primed."""
    context = "N/A" if row.get("hint") is None else row["hint"]
    choices = " ".join(f"{letter}. {text}" for letter, text in options(row).items())
    return PublishedPrompt(user=f"Question: {row['question']}\nContext: {context}\nOptions: {choices}", answer=PRIMED)


def published_mmmu(row: Row) -> PublishedPrompt:
    """Write a multiple-choice prompt; a question without options asks for a word, here without the spaces."""
    return published_choice(row) if options(row) else PublishedPrompt(user=f"{BRIEFLY}{row['question']}")


def published_vqa(row: Row) -> PublishedPrompt:
    """Write the instruction, 26 spaces, and the question."""
    return PublishedPrompt(user=f"{BRIEFLY}{VQA_BLANKS}{row['question']}")


def published_bare(row: Row) -> PublishedPrompt:
    """Write the question alone: MathVista's questions contain their hints."""
    return PublishedPrompt(user=str(row["question"]))


def published_mme(row: Row) -> PublishedPrompt:
    """Write the question up to its own "Please answer", then another instruction."""
    return PublishedPrompt(user=f"{row['question'].split('Please answer')[0].strip()} Answer this question briefly")


def published_hallusion(row: Row) -> PublishedPrompt:
    """Write the instruction, the question, and 15 spaces."""
    return PublishedPrompt(user=f"{BRIEFLY}{row['question']}{HALLUSION_BLANKS}")


def published_mmvet(row: Row) -> PublishedPrompt:
    """Write a system message, the question, 25 spaces and the instruction; the assistant's header has 25 spaces too."""
    return PublishedPrompt(
        user=f"{row['question']}{VET_BLANKS}{IN_DETAIL}", system=META_INSTRUCTION, assistant=f"{VET_BLANKS}assistant"
    )


# -- clean ------------------------------------------------------------------------------------------------------------


def clean_choice(row: Row) -> str:
    """Write the hint, the question, one option per line and the instruction; without options as `clean_vqa`."""
    if not options(row):
        return clean_vqa(row)
    hint = [] if row.get("hint") is None else [f"Hint: {row['hint']}"]
    choices = [f"{letter}. {text}" for letter, text in options(row).items()]
    return "\n".join([*hint, f"Question: {row['question']}", "Options:", *choices, LETTER])


def clean_vqa(row: Row) -> str:
    """Write the question, then the instruction."""
    return f"{row['question']}\n{BRIEFLY}"


def clean_bare(row: Row) -> str:
    """Write the question as the data set has it."""
    return str(row["question"])


def clean_yes_no(row: Row) -> str:
    """Write the question with one instruction: its own where it has one."""
    question = str(row["question"])
    return question if "yes or no" in question.lower() else f"{question}\nPlease answer yes or no."


def at_tags(text: str, images: int) -> tuple[str | Image, ...]:
    """Return the parts of a user message with every image in place of its tag `<image n>`, as often as it stands there.

    Args:
        text: with tags; one beyond the images stays text.
        images: number of images; one that no tag names stands before the text.
    """
    parts: list[str | Image] = []
    for number, piece in enumerate(IMAGE_TAG.split(text)):
        if number % 2 == 0:
            parts.append(piece)
        elif 1 <= int(piece) <= images:
            parts.append(Image(int(piece) - 1, fixed=True))
        else:
            parts.append(f"<image {piece}>")
    named = {part.source for part in parts if isinstance(part, Image)}
    first = [Image(place, fixed=True) for place in range(images) if place not in named]
    return (*first, *(part for part in parts if part != ""))


# -- answers ----------------------------------------------------------------------------------------------------------


def first_capital(answer: str) -> str:
    """Return the first capital letter of an answer to a primed choice, "Z" if there is none (as upstream)."""
    return next((letter for letter in answer if letter in ascii_uppercase), "Z")


def unchanged(answer: str) -> str:
    """Return the answer itself."""
    return answer
