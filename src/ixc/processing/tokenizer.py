"""Tokenizers: text <-> ids.

Two of them, both fast ones (`tokenizers` library) behind `PreTrainedTokenizerFast`:

* `character_tokenizer()`: the 128 ids of the embedded model, fixed for ever.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
TURN_START, TURN_END = "[UNUSED_TOKEN_146]", "[UNUSED_TOKEN_145]"
IMAGE_PLACEHOLDER = "<ImageHere>"
ROLES = ("system", "user", "assistant")

PHRASES = (
    "What is the value of ",
    "What is the ",
    "What is on line ",
    "What comes after ",
    "How much is ",
    "How many ",
    "Which ",
    "Is there ",
    " of ",
    " in ",
    "title",
    "total",
    "What is ",
    "Read ",
    "line ",
    "What ",
    "Where is ",
    "first word",
    "last word",
    "the page",
    "below ",
    "Who ",
    "When ",
)
"""One id each wherever they stand in a text, the longest first: a question is mostly its keyword, letter by letter."""

CHARACTER_VOCABULARY = (
    UNKNOWN,
    BOS,
    EOS,
    "\n",
    *map(chr, range(32, 127)),
    *ROLES,
    IMAGE_PLACEHOLDER,
    TURN_START,
    TURN_END,
    *PHRASES,
)
"""The embedded model's vocabulary; the index is the id. The order never changes, or trained weights lose their sense.

0 <unk>, 1 <s>, 2 </s> (also padding), 3 newline, 4..98 printable ASCII (space first), 99..101 the role words,
102 image, 103 start of turn, 104 end of turn, 105..127 phrases.
"""


def character_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the embedded model: one id per printable ASCII character, plus phrases; 128 ids.

    Any other character is `<unk>`, one for each. A role word is one id only in a turn's header (after the start tag,
    before a newline); elsewhere it is spelt, as it is on a page. No BOS is added: the processor places it.
    """
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(CHARACTER_VOCABULARY)}, UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_character_pattern()), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        padding_side="left",
        split_special_tokens=True,  # the letters "</s>" in a text are letters
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _character_pattern() -> str:
    """Tags whole, a role word in a turn's header whole, anything else one character at a time."""
    escape = str.maketrans({"[": r"\[", "]": r"\]"})
    start, end = TURN_START.translate(escape), TURN_END.translate(escape)
    return rf"{start}|{end}|{IMAGE_PLACEHOLDER}|(?<={start})(?:{'|'.join(ROLES)})(?=\n)|[\s\S]"
