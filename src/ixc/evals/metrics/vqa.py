"""VQA score (TextVQA; paper Table 3): agreement with ten annotators, min(1, equal others / 3), leave-one-out mean.

Antol et al. 2015, with the normalisation of its evaluation: punctuation, number words, articles, contractions.

rule "vlmevalkit"  punctuation, number words, articles and contractions normalised
rule "lmms"        "," and "?" vanish first, "'s" becomes a word of its own, and a final period after a digit goes
"""

from __future__ import annotations

from collections.abc import Sequence

from ixc.evals.metrics.punctuation import PERIOD_BEFORE_NO_DIGIT, without_punctuation
from ixc.evals.metrics.rule import LMMS, VLMEVALKIT, check

RULES = (VLMEVALKIT, LMMS)

ENOUGH = 3
"""Agreeing annotators for the full score."""

ARTICLES = frozenset({"a", "an", "the"})

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0"} | {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split())}
"""Number word -> digits."""

_SIMPLE = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd "
    "there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've "
    "when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all "
    "you'd you'll you're you've"
)
"""Contractions whose apostrophe is restored if missing."""

_TWICE = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'd've you'd've"
)
"""Contractions with two final apostrophes, either of which may be missing."""

_ODD = {
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    "somebody'd": "somebodyd",
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "yall'd've": "y'all'd've",
}


def _contractions() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _SIMPLE.split()} | _ODD
    for word in _TWICE.split():
        head, middle, last = word.rsplit("'", 2)
        table |= {f"{head}{middle}'{last}": word, f"{head}'{middle}{last}": word}
    return table


CONTRACTIONS = _contractions()
"""Spelling -> contraction. The original's keys with capitals (Im, Ive) can never match and are left out."""


def _words(text: str) -> str:
    converted = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in converted if word not in ARTICLES)


def normalise(text: str, *, rule: str = VLMEVALKIT) -> str:
    """Normalise a text for comparison."""
    if rule == LMMS:
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    bare = without_punctuation(text, period=PERIOD_BEFORE_NO_DIGIT) if rule == LMMS else without_punctuation(text)
    return _words(bare)


def vqa(prediction: str, answers: Sequence[str], *, rule: str = VLMEVALKIT) -> float:
    """Score one question, 0 to 1: the mean over annotators of the agreement with the other ones.

    Raises:
        UsageError: unknown rule.
    """
    check(rule, RULES, metric="the VQA score")
    text = normalise(prediction, rule=rule)
    equal = [normalise(answer, rule=rule) == text for answer in answers]
    votes = sum(equal)
    return sum(min(1.0, (votes - own) / ENOUGH) for own in equal) / len(equal)
