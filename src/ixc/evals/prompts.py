"""Prompts: those behind the published numbers, verbatim, and clean ones. Spec (i).

A published prompt is a whole prompt with its special tokens, as VLMEvalKit's wrapper of this model writes it: the image
before the user's turn, no system message (except MM-Vet), and runs of spaces from continued source lines. The spaces
change the scores, so they are named constants here. A clean prompt is a plain user message; `core.chat_format` adds the
special tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from ixc.core.chat_format import IMAGE_PLACEHOLDER, META_INSTRUCTION, TURN_END, TURN_START

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


def options(row: Row) -> dict[str, str]:
    """Return letter -> option text, for the letters whose cell is not missing."""
    return {letter: str(row[letter]) for letter in ascii_uppercase if row.get(letter) is not None}


def _published(user: str, answer: str = "") -> str:
    return f"{IMAGE_PLACEHOLDER}{TURN_START}user\n{user}{TURN_END}\n{TURN_START}assistant\n{answer}"


# -- published --------------------------------------------------------------------------------------------------------


def published_choice(row: Row) -> str:
    """Write question, context (the hint, or N/A) and options on one line each, with the answer primed."""
    context = "N/A" if row.get("hint") is None else row["hint"]
    choices = " ".join(f"{letter}. {text}" for letter, text in options(row).items())
    return _published(f"Question: {row['question']}\nContext: {context}\nOptions: {choices}", PRIMED)


def published_mmmu(row: Row) -> str:
    """Write a multiple-choice prompt; a question without options asks for a word, here without the spaces."""
    return published_choice(row) if options(row) else _published(f"{BRIEFLY}{row['question']}")


def published_vqa(row: Row) -> str:
    """Write the instruction, 26 spaces, and the question."""
    return _published(f"{BRIEFLY}{VQA_BLANKS}{row['question']}")


def published_bare(row: Row) -> str:
    """Write the question alone: MathVista's questions contain their hints."""
    return _published(row["question"])


def published_mme(row: Row) -> str:
    """Write the question up to its own "Please answer", then another instruction."""
    return _published(f"{row['question'].split('Please answer')[0].strip()} Answer this question briefly")


def published_hallusion(row: Row) -> str:
    """Write the instruction, the question, and 15 spaces."""
    return _published(f"{BRIEFLY}{row['question']}{HALLUSION_BLANKS}")


def published_mmvet(row: Row) -> str:
    """Write a system message, the question, 25 spaces and the instruction; the assistant's header has 25 spaces too."""
    return (
        f"{IMAGE_PLACEHOLDER}{TURN_START}system\n{META_INSTRUCTION}{TURN_END}\n"
        f"{TURN_START}user\n{row['question']}{VET_BLANKS}{IN_DETAIL}{TURN_END}\n"
        f"{TURN_START}{VET_BLANKS}assistant\n"
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


# -- answers ----------------------------------------------------------------------------------------------------------


def first_capital(answer: str) -> str:
    """Return the first capital letter of an answer to a primed choice, "Z" if there is none (as upstream)."""
    return next((letter for letter in answer if letter in ascii_uppercase), "Z")


def unchanged(answer: str) -> str:
    """Return the answer itself."""
    return answer
