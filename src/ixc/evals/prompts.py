"""What the model is asked: the prompts behind the published numbers, word for word, and clean ones. Spec (i).

The published ones are whole prompts with their tags, as VLMEvalKit's wrapper of this model writes them: the image
before the user's turn, no system text (save MM-Vet), and runs of blanks where lines of its source were continued. They
change the scores, so they have names here. Clean prompts are a user's words; the tags come from `chat`.
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
"""How the assistant's turn begins for a choice; the model goes on with the letter."""

VQA_BLANKS = " " * 26
"""Between the instruction and the question."""
VET_BLANKS = " " * 25
"""Behind MM-Vet's question, and within its assistant's header."""
HALLUSION_BLANKS = " " * 15
"""Behind HallusionBench's question."""


def options(row: Row) -> dict[str, str]:
    """Letter -> option text, for the letters whose cell is not missing."""
    return {letter: str(row[letter]) for letter in ascii_uppercase if row.get(letter) is not None}


def _published(user: str, answer: str = "") -> str:
    return f"{IMAGE_PLACEHOLDER}{TURN_START}user\n{user}{TURN_END}\n{TURN_START}assistant\n{answer}"


# -- published --------------------------------------------------------------------------------------------------------


def published_choice(row: Row) -> str:
    """Question, context (the hint, or N/A) and options on one line; the answer is begun."""
    context = "N/A" if row.get("hint") is None else row["hint"]
    choices = " ".join(f"{letter}. {text}" for letter, text in options(row).items())
    return _published(f"Question: {row['question']}\nContext: {context}\nOptions: {choices}", PRIMED)


def published_mmmu(row: Row) -> str:
    """A choice; a question without options is asked for a word, here without the blanks."""
    return published_choice(row) if options(row) else _published(f"{BRIEFLY}{row['question']}")


def published_vqa(row: Row) -> str:
    """Instruction, 26 blanks, question."""
    return _published(f"{BRIEFLY}{VQA_BLANKS}{row['question']}")


def published_bare(row: Row) -> str:
    """The question alone: MathVista brings its own hints."""
    return _published(row["question"])


def published_mme(row: Row) -> str:
    """The question up to its own "Please answer", then another instruction."""
    return _published(f"{row['question'].split('Please answer')[0].strip()} Answer this question briefly")


def published_hallusion(row: Row) -> str:
    """Instruction, question, 15 blanks."""
    return _published(f"{BRIEFLY}{row['question']}{HALLUSION_BLANKS}")


def published_mmvet(row: Row) -> str:
    """System text, question, 25 blanks, instruction; 25 blanks more in the assistant's header."""
    return (
        f"{IMAGE_PLACEHOLDER}{TURN_START}system\n{META_INSTRUCTION}{TURN_END}\n"
        f"{TURN_START}user\n{row['question']}{VET_BLANKS}{IN_DETAIL}{TURN_END}\n"
        f"{TURN_START}{VET_BLANKS}assistant\n"
    )


# -- clean ------------------------------------------------------------------------------------------------------------


def clean_choice(row: Row) -> str:
    """Hint, question, one option a line, instruction; without options as `clean_vqa`."""
    if not options(row):
        return clean_vqa(row)
    hint = [] if row.get("hint") is None else [f"Hint: {row['hint']}"]
    choices = [f"{letter}. {text}" for letter, text in options(row).items()]
    return "\n".join([*hint, f"Question: {row['question']}", "Options:", *choices, LETTER])


def clean_vqa(row: Row) -> str:
    """Question, then instruction."""
    return f"{row['question']}\n{BRIEFLY}"


def clean_bare(row: Row) -> str:
    """The question as the data set words it."""
    return str(row["question"])


def clean_yes_no(row: Row) -> str:
    """The question with one instruction, its own where it has one."""
    question = str(row["question"])
    return question if "yes or no" in question.lower() else f"{question}\nPlease answer yes or no."


# -- answers ----------------------------------------------------------------------------------------------------------


def first_capital(answer: str) -> str:
    """The first letter A to Z of an answer to a primed choice, Z if there is none: what the wrapper hands on."""
    return next((letter for letter in answer if letter in ascii_uppercase), "Z")


def as_said(answer: str) -> str:
    """The answer itself."""
    return answer
