"""Yes or no (MME, HallusionBench): which of the two an answer says.

rule "vlmevalkit"  exactly one of the words "yes" and "no" occurs; neither or both = "Unknown", which is wrong
rule "lmms"        MME of lmms-eval: the first four characters, periods dropped; "n" and "y" alone count
rule "notebook"    HallusionBench of the authors' notebook and of lmms-eval: "Yes" where "yes" occurs at all, else "No"
"""

from __future__ import annotations

from ixc.evals.metrics.punctuation import without_punctuation
from ixc.evals.metrics.rule import LMMS, NOTEBOOK, VLMEVALKIT, Judge, check

RULES = (VLMEVALKIT, LMMS, NOTEBOOK)

YES, NO, UNKNOWN = "Yes", "No", "Unknown"

TRIES = 5
"""Requests to a judge about one answer."""


def _by_words(text: str) -> str:
    words = without_punctuation(text.lower()).split()
    if ("yes" in words) == ("no" in words):
        return UNKNOWN
    return YES if "yes" in words else NO


def _by_beginning(text: str) -> str:
    lowered = text.lower().strip().replace(".", "")
    if len(lowered) == 1:
        return {"y": YES, "n": NO}.get(lowered, UNKNOWN)
    start = lowered[:4]
    if "yes" in start:
        return YES
    return NO if "no" in start else UNKNOWN


def _by_occurrence(text: str) -> str:
    return YES if "yes" in text.lower() else NO


_PARSERS = {VLMEVALKIT: _by_words, LMMS: _by_beginning, NOTEBOOK: _by_occurrence}


def yes_no(prediction: str, *, rule: str = VLMEVALKIT) -> str:
    """Classify an answer as "Yes", "No" or "Unknown".

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="yes or no")
    return _PARSERS[rule](prediction)


def judge_prompt(question: str, prediction: str) -> str:
    """Write the judge's prompt for an answer that says neither or both."""
    return (
        "Somebody answered a question that has only two answers, yes and no. Say which of the two the answer means.\n"
        "Reply with one word: Yes, No, or Unknown where it means neither.\n\n"
        "Question: Is the door open?\nAnswer: Through the doorway one sees into the hall.\nReply: Yes\n\n"
        "Question: Are there three cups?\nAnswer: Two cups stand on the table.\nReply: No\n\n"
        "Question: Is the dog older than the cat?\nAnswer: A dog and a cat lie on a rug.\nReply: Unknown\n\n"
        f"Question: {question}\nAnswer: {prediction}\nReply: "
    )


def decide(question: str, prediction: str, *, judge: Judge | None = None) -> str:
    """Classify an answer by the default rule; ask the judge, if there is one, about "Unknown"."""
    verdict = yes_no(prediction)
    if judge is None or verdict != UNKNOWN:
        return verdict
    for _ in range(TRIES):
        verdict = yes_no(judge(judge_prompt(question, prediction)))
        if verdict != UNKNOWN:
            break
    return verdict
