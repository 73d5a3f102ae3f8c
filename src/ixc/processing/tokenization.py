"""Tokenizers: text <-> ids, and text that cannot forge anything. Spec (i).

Two of them, both fast ones (`tokenizers` library):

* `IxcTokenizer`: the published one, read from a sentencepiece `tokenizer.model` (BPE with byte fallback, no
  normalisation, no dummy prefix) without the sentencepiece package; equal to it id for id.
* `character_tokenizer()`: the 128 ids of the embedded model, fixed for ever.

In raw text of either, tags (`[UNUSED_TOKEN_145]`) match wherever they stand, control tokens (`</s>`) never do.
`plain_text.plain_ids()` is the encoder for what a person wrote: there no tag matches either.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ixc.core.chat_format import IMAGE_PLACEHOLDER, ROLES, TURN_END, TURN_START
from ixc.errors import WeightsError

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"

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


LATIN_1 = "".join(chr(c) for c in range(0xA1, 0x100) if c != 0xAD)
"""0xAD is the soft hyphen, which is drawn as a hyphen or not at all."""
TYPOGRAPHIC = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ−→←≤≥"
"""Signs of Windows-1252 outside of Latin-1, the minus sign, arrows and comparisons."""
REPLACEMENT = "\ufffd"
"""Stands for a visible character outside of the vocabulary."""

PAGE_VOCABULARY = (*CHARACTER_VOCABULARY, *LATIN_1, *TYPOGRAPHIC, REPLACEMENT)
"""Vocabulary of a model of real pages: ids 0 to 127 as in `CHARACTER_VOCABULARY`, then the signs of real texts."""


def character_tokenizer(vocabulary: Sequence[str] = CHARACTER_VOCABULARY) -> PreTrainedTokenizerFast:
    """The tokenizer of the embedded model: one id per printable ASCII character, plus phrases; 128 ids.

    Args:
        vocabulary: `CHARACTER_VOCABULARY` or `PAGE_VOCABULARY`.

    Any other character is `<unk>`, one for each. A role word is one id only in a turn's header (after the start tag,
    before a newline); elsewhere it is spelt, as it is on a page. No BOS is added: the processor places it.
    """
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, UNKNOWN))
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


# -- the published tokenizer ------------------------------------------------------------------------------------------

NORMAL, USER_DEFINED = 1, 4
"""Kinds of sentencepiece pieces (its `ModelProto.SentencePiece.Type`); the others never match text."""

SPACE = "\u2581"
"""Sentencepiece's visible space. A text's own U+2581 is therefore decoded as a space, as by sentencepiece itself."""

NUL_PIECE = "\0\0"
"""Name of the piece NUL, kept from matching: sentencepiece leaves it unused and spells NUL as a byte."""


class IxcTokenizer(PreTrainedTokenizerFast):
    """The published tokenizer; `from_pretrained` takes a folder with `tokenizer.json` or only `tokenizer.model`.

    Building from `tokenizer.model` takes two or three seconds; `save_pretrained` writes a `tokenizer.json`. Called on
    a text it puts `<s>` in front, as the original's does.
    """

    vocab_files_names = {"vocab_file": "tokenizer.model", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    padding_side = "left"

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """The library's hook between finding a folder's files and building the tokenizer."""
        if not kwargs.get("tokenizer_file"):
            kwargs["tokenizer_object"] = sentencepiece_backend(kwargs["vocab_file"])
        kwargs.pop("vocab_file", None)
        return _published_settings() | {key: value for key, value in kwargs.items() if value is not None}


def _published_settings() -> dict[str, Any]:
    return {
        "unk_token": UNKNOWN,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,  # spec (h): pad id 2
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }


def sentencepiece_backend(path: str | Path) -> Tokenizer:
    """A `tokenizer.model` file -> the equal `tokenizers` backend.

    Raises:
        WeightsError: not a sentencepiece BPE model.
    """
    pieces = _pieces(path)
    vocabulary = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, _merges(pieces), unk_token=UNKNOWN, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", SPACE)
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_tokens([AddedToken(piece, normalized=False) for piece, _, kind in pieces if kind == USER_DEFINED])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return backend


Piece = tuple[str, float, int]
"""(text, score, kind) of a piece; its place in the list is its id."""


def _merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Pairs in order of the score of what they make: sentencepiece merges by score, `tokenizers` by rank."""
    normal = {piece: i for i, (piece, _, kind) in enumerate(pieces) if kind == NORMAL}
    ranked = [
        (-pieces[i][1], i, normal[piece[:cut]], normal[piece[cut:]])
        for piece, i in normal.items()
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    return [(pieces[left][0], pieces[right][0]) for _, _, left, right in sorted(ranked)]


def _pieces(path: str | Path) -> list[Piece]:
    """The pieces of a sentencepiece model: field 1 of its protobuf message, each with text 1, score 2, kind 3."""
    try:
        found = [_piece(dict(_fields(value))) for key, value in _fields(Path(path).read_bytes()) if key == 1]
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise WeightsError(
            f"{path} is not a sentencepiece model ({error}); take the published tokenizer.model"
        ) from None
    if {UNKNOWN, BOS, EOS} - {piece for piece, _, _ in found}:
        raise WeightsError(f"{path} has {len(found)} pieces and not all of {UNKNOWN} {BOS} {EOS}; is it another file?")
    return found


def _piece(fields: dict[int, Any]) -> Piece:
    text = fields[1].decode()
    (score,) = struct.unpack("<f", fields[2]) if 2 in fields else (0.0,)
    return (NUL_PIECE if text == "\0" else text), score, fields.get(3, NORMAL)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protobuf message: integers as int, everything else as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}[kind]
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes at {at} of {len(message)}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
