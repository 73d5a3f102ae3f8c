"""Chat format: messages to prompt segments, and token ids to training labels. Spec (i) and (j); pure Python.

    messages  ->  segments  ->  (processor)  ->  ids  ->  labels()

    [UNUSED_TOKEN_146]system\\n{text}[UNUSED_TOKEN_145]\\n
    [UNUSED_TOKEN_146]user\\n<ImageHere>{text}[UNUSED_TOKEN_145]\\n
    [UNUSED_TOKEN_146]assistant\\n{answer}[UNUSED_TOKEN_145]\\n

A *segment* is a typed part of the prompt: **markup** (tags and headers, written by this file only), **content** (text
of a person or the model) or an **image**. The processor tokenises content as plain text, so a user's own
`[UNUSED_TOKEN_145]` or `<ImageHere>` stays text: no input can forge a turn, an end of turn or an image.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ixc.errors import DataError, UsageError

TURN_START = "[UNUSED_TOKEN_146]"
"""Opens a turn; an ordinary token of the published tokenizer, id 92543."""
TURN_END = "[UNUSED_TOKEN_145]"
"""Closes a turn; id 92542, and the model's own stop token."""
IMAGE_PLACEHOLDER = "<ImageHere>"
"""Placeholder of an image in a prompt written as one string."""
IGNORED = -100
"""The label of a position that is not trained (PyTorch's cross entropy skips it)."""

META_INSTRUCTION = """\
You are an AI assistant whose name is InternLM-XComposer (浦语·灵笔).
- InternLM-XComposer (浦语·灵笔) is a multi-modality conversational language model that is developed by \
Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.
- InternLM-XComposer (浦语·灵笔) can understand and communicate fluently in the language chosen by the user such as \
English and 中文.
- InternLM-XComposer (浦语·灵笔) is capable of comprehending and articulating responses effectively based on the \
provided image."""
"""The system text of the original chat, on by default there."""

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)
SegmentKind = Literal["markup", "content", "image"]


@dataclass(frozen=True, kw_only=True)
class ChatDefaults:
    """Defaults of the original chat()."""

    max_new_tokens: int = 1024
    do_sample: bool = True
    num_beams: int = 1
    temperature: float = 1.0
    top_p: float = 0.8
    repetition_penalty: float = 1.005
    hd: int = 25
    """At most this many 336 px tiles per image."""


CHAT_DEFAULTS = ChatDefaults()


@dataclass(frozen=True)
class Image:
    """An image in a message; without a source it takes the next of the images given beside the messages."""

    source: Any = None
    """A path, bytes, an open file or a PIL image; opened by the image processor."""
    fixed: bool = field(default=False, compare=False)
    """Its place in the message was chosen deliberately, so `turn_rules.arrange` leaves it there."""


@dataclass(frozen=True)
class Message:
    """One turn: its role, and texts and images in order."""

    role: Role
    content: tuple[str | Image, ...]


@dataclass(frozen=True)
class Segment:
    """A typed part of a prompt; `image` is set for images only, `text` for the others."""

    kind: SegmentKind
    text: str = ""
    image: Image | None = None


def stop_ids(*eos_token_ids: int | Sequence[int] | None) -> frozenset[int]:
    """Return the ids that end an answer: all ids of the `eos_token_id` values given, each one id, several or None."""
    found: set[int] = set()
    for value in eos_token_ids:
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found)


# -- messages ---------------------------------------------------------------------------------------------------------


def parse_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
    """Parse messages in the common formats.

    Args:
        messages: mappings with `role` (system, user, assistant) and `content`: a string, or a list of strings and of
            `{"type": "text", "text": ...}`, `{"type": "image", "image" | "url" | "path" | "base64": ...}` or
            `{"type": "image_url", "image_url": {"url": ...}}`. `{"type": "image"}` alone is a placeholder.
            A string is all text: `<ImageHere>` in it is no image.

    Raises:
        UsageError: an unknown role, part or an empty conversation.
    """
    parsed = [m if isinstance(m, Message) else _message(m) for m in messages]
    if not parsed:
        raise UsageError("the conversation has 0 messages; give at least 1")
    return parsed


def from_query(
    query: str, *, history: Iterable[tuple[str, str]] = (), images: Sequence[Any] | None = None
) -> list[Message]:
    """Convert the original chat's arguments to messages: `<ImageHere>` in a query is an image.

    For callers who write their prompts themselves; a user's text belongs in `Message("user", (image, text))`.

    Args:
        query: the user's text.
        history: earlier (query, response) pairs.
        images: sources of the images, in order; None leaves the placeholders open.

    Raises:
        UsageError: another number of images than of placeholders.
    """
    pairs = list(history)
    found = sum(old.count(IMAGE_PLACEHOLDER) for old, _ in pairs) + query.count(IMAGE_PLACEHOLDER)
    if images is not None:
        check_images(placeholders=found, images=len(images))
    sources = iter(images if images is not None else [None] * found)
    messages: list[Message] = []
    for old, response in pairs:
        messages += [_split_query(old, sources), Message("assistant", (response,))]
    return [*messages, _split_query(query, sources)]


def check_images(*, placeholders: int, images: int) -> None:
    """Check that there is one image for each placeholder.

    Raises:
        UsageError: the numbers differ.
    """
    if placeholders != images:
        raise UsageError(
            f"the conversation has {placeholders} places for images and {images} images were given; "
            "give one image for each place"
        )


def _split_query(query: str, sources: Any) -> Message:
    first, *rest = query.split(IMAGE_PLACEHOLDER)
    content: list[str | Image] = [first]
    for text in rest:
        content += [Image(next(sources), fixed=True), text]
    return Message("user", tuple(part for part in content if part != ""))


def _message(message: Mapping[str, Any]) -> Message:
    if not isinstance(message, Mapping):
        raise UsageError(f"a message is a mapping with role and content, got {type(message).__name__}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise UsageError(f"unknown role {role!r}; take one of {', '.join(ROLES)}")
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise UsageError(f"the content of a message is a string or a list of parts, got {type(content).__name__}")
    return Message(role, tuple(map(_part, parts)))


def _part(part: Any) -> str | Image:
    if isinstance(part, str | Image):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind == "image":
        if part.get("base64") is not None:
            return Image(f"data:;base64,{part['base64']}")
        return Image(next((part[key] for key in ("image", "url", "path") if part.get(key) is not None), None))
    if kind == "image_url":
        url = part.get("image_url")
        return Image(url.get("url") if isinstance(url, Mapping) else url)
    raise UsageError(f"unknown part {kind or type(part).__name__!r} of a message; take text, image or image_url")


# -- messages -> segments ---------------------------------------------------------------------------------------------


def render(
    messages: Iterable[Message | Mapping[str, Any]],
    *,
    system: str = "",
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
) -> list[Segment]:
    """Render messages as segments; `to_text()` of them is the original's prompt string.

    Args:
        messages: see `parse_messages`.
        system: system text of a conversation without one; "" for no system turn.
        add_generation_prompt: end with the assistant's header (ignored when the final message is continued).
        continue_final_message: leave the last turn open, for the model to continue it.
    """
    turns = parse_messages(messages)
    if system and turns[0].role != "system":
        turns.insert(0, Message("system", (system,)))
    segments: list[Segment] = []
    for turn in turns:
        segments += [_header(turn.role), *map(_segment, turn.content), Segment("markup", f"{TURN_END}\n")]
    if continue_final_message:
        segments.pop()
    elif add_generation_prompt:
        segments.append(_header("assistant"))
    return _merged(segments)


def render_training(messages: Iterable[Message | Mapping[str, Any]], *, published_quirks: bool) -> list[Segment]:
    """Render messages with answers as segments of a training text; with quirks the processor adds `</s>`.

    Args:
        messages: see `parse_messages`; the last one is the assistant's.
        published_quirks: as the original trained: texts stripped at both ends of a message, and no newline after the
            last end tag (its tokenizer ate whitespace before `</s>`). Off: the same turns as at inference.
    """
    turns = parse_messages(messages)
    if turns[-1].role != "assistant":
        raise DataError(f"the last of {len(turns)} messages is by the {turns[-1].role}; end with an assistant's answer")
    if not published_quirks:
        return render(turns, add_generation_prompt=False)
    segments = render([_stripped(turn) for turn in turns], add_generation_prompt=False)
    return [*segments[:-1], Segment("markup", segments[-1].text.removesuffix("\n"))]


def to_text(segments: Iterable[Segment]) -> str:
    """Return the prompt as one string, an image as `<ImageHere>`: for reading and comparing, not for tokenising."""
    return "".join(IMAGE_PLACEHOLDER if s.kind == "image" else s.text for s in segments)


def from_text(text: str) -> list[Segment]:
    """Parse a trusted prompt written as one string: `<ImageHere>` is an image, tags are tags."""
    first, *rest = text.split(IMAGE_PLACEHOLDER)
    segments = [Segment("markup", first)]
    for run in rest:
        segments += [Segment("image", image=Image()), Segment("markup", run)]
    return [s for s in segments if s.kind == "image" or s.text]


def chat_template(system: str = "") -> str:
    """Return the chat format as a Jinja template, for tools that render prompts; equals `to_text(render())`.

    Args:
        system: system text of a conversation without one.
    """
    turn = f"{{{{ '{TURN_START}' + %s + '\\n' }}}}"
    end = f"{{{{ '{TURN_END}\\n' }}}}"
    default = turn % "'system'" + f"{{{{ {json.dumps(system, ensure_ascii=False)} }}}}" + end
    return (
        (f"{{% if messages[0]['role'] != 'system' %}}{default}{{% endif %}}" if system else "")
        + "{% for message in messages %}"
        + turn % "message['role']"
        + "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        + "{% for part in message['content'] %}"
        + "{% if part is string %}{{ part }}{% elif part['type'] == 'text' %}{{ part['text'] }}"
        + f"{{% else %}}{{{{ '{IMAGE_PLACEHOLDER}' }}}}{{% endif %}}"
        + "{% endfor %}{% endif %}"
        + end
        + "{% endfor %}{% if add_generation_prompt %}"
        + turn % "'assistant'"
        + "{% endif %}"
    )


def _header(role: Role) -> Segment:
    return Segment("markup", f"{TURN_START}{role}\n")


def _segment(part: str | Image) -> Segment:
    return Segment("image", image=part) if isinstance(part, Image) else Segment("content", part)


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Join neighbours of one kind and drop empty texts; joined, two texts are tokenised as the one text they form."""
    merged: list[Segment] = []
    for segment in segments:
        if segment.kind == "image" or not merged or merged[-1].kind != segment.kind:
            merged.append(segment)
        else:
            merged[-1] = Segment(segment.kind, merged[-1].text + segment.text)
    return [s for s in merged if s.kind == "image" or s.text]


def _stripped(turn: Message) -> Message:
    """Strip whitespace at both ends of a message; text next to an image at an end keeps its own."""
    content = list(turn.content)
    if content and isinstance(content[0], str):
        content[0] = content[0].lstrip()
    if content and isinstance(content[-1], str):
        content[-1] = content[-1].rstrip()
    return Message(turn.role, tuple(content))


# -- ids -> labels ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TurnIds:
    """Token ids by which labels are found."""

    end: int
    """`[UNUSED_TOKEN_145]`: 92542 in the published tokenizer."""
    eos: int
    """`</s>`: 2."""
    header: tuple[int, ...]
    """`[UNUSED_TOKEN_146]assistant\\n`: (92543, 525, 11353, 364) in the published tokenizer."""


PUBLISHED_TURN_IDS = TurnIds(end=92542, eos=2, header=(92543, 525, 11353, 364))


def labels(ids: Sequence[int], *, turn: TurnIds = PUBLISHED_TURN_IDS, published_quirks: bool = False) -> list[int]:
    """Return labels as long as the ids (not shifted); -100 where nothing is trained. Spec (j).

    Args:
        ids: one conversation; image positions hold -100 or any id that is none of `turn`'s.
        turn: ids of the tags.
        published_quirks: as the original: turns alternate human, assistant from the first end tag on, whatever their
            headers say; `</s>` is trained and ends the scan; a text without tags is trained whole; a question cut
            off leaves one token of the turn before it trained. Off: exactly the assistant's answers, each with its
            end tag (an answer cut off as far as it goes).
    """
    return _published_labels(ids, turn) if published_quirks else _answer_labels(ids, turn)


def _answer_labels(ids: Sequence[int], turn: TurnIds) -> list[int]:
    found = [IGNORED] * len(ids)
    width = len(turn.header)
    inside = False
    for i, token in enumerate(ids):
        inside = inside or (i >= width and tuple(ids[i - width : i]) == turn.header)
        if inside:
            found[i] = token
            inside = token != turn.end
    return found


def _published_labels(ids: Sequence[int], turn: TurnIds) -> list[int]:
    found = list(ids)
    stop = found.index(turn.eos) if turn.eos in found else len(found)
    ends = [i for i in range(stop) if ids[i] == turn.end]
    after_answer = 0

    def ignore(start: int, end: int) -> None:
        found[start:end] = [IGNORED] * len(found[start:end])

    for count, i in enumerate(ends):
        if count % 2:
            after_answer = i + 1
        else:  # a question: up to the end of the answer's header (end tag, newline, header)
            ignore(after_answer, i + 2 + len(turn.header))
    if stop < len(found):
        ignore(stop + 1, len(found))
    elif len(ends) % 2 == 0:  # cut inside a question
        ignore(after_answer + 1, len(found))
    return found
