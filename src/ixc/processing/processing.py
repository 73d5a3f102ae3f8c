"""Conversations and pictures -> what the model takes. Spec (i); the front door of this room.

    messages --chat.render--> segments --tokenizer--> runs of ids --|
    images ----image processor--> tiles, grids --layout--> counts --|--> input_ids, mm_token_type_ids, ...

Shapes: B conversations, T longest of them in tokens (the others padded, on the left by default), N tiles of all images
together, n images. What comes out:
    input_ids          (B, T) int64, `image_token_id` wherever an image's token stands, newlines and separator too
    attention_mask     (B, T) int64, 0 on padding
    mm_token_type_ids  (B, T) int64, 1 on image tokens
    pixel_values       (N, 3, 336, 336) uint8 and image_grids (n, 2) int64; both missing without images
    labels             (B, T) int64, of `encode_training` only, -100 where nothing is trained
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import MultiModalData

from ixc.core import chat_format
from ixc.core.chat_format import IGNORED, IMAGE_PLACEHOLDER, META_INSTRUCTION, TURN_END, Message, Segment, TurnIds
from ixc.core.token_layout import num_image_tokens
from ixc.core.turn_rules import TurnRules
from ixc.errors import ContextError, ImageError, UsageError
from ixc.processing.image_processing import IxcImageProcessorPil, flatten
from ixc.processing.options import Options
from ixc.processing.options import options as options_of
from ixc.processing.prompt_encoding import EncodedRow, PromptEncoder
from ixc.processing.tokenization import IxcTokenizer
from ixc.utils.data_url import DataUrlError, decode_data_url

Conversation = Sequence[Message | Mapping[str, Any]]
_SETTINGS = (
    *("chat_template", "published_quirks", "system", "newline", "overview", "tokens_per_side"),
    *("system_turns", "images_first"),
)
FETCH_SECONDS = 30
"""How long an address may keep silent."""

MAX_FETCHED = 1 << 29
"""Most bytes fetched from an address: 178 megapixels of 24 bit, uncompressed."""

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


_TILING = ("hd", "partition")
_OF_THE_LIBRARY = (
    *("backend", "cache_dir", "config", "force_download", "local_files_only", "revision", "subfolder", "token"),
    *("trust_remote_code", "use_fast", "code_revision"),
    *("attn_implementation", "device_map", "dtype", "quantization_config", "torch_dtype"),
)
"""Keywords that AutoProcessor and pipelines hand to every part; the last line is the model's."""
_OF_THE_TOKENIZER = (
    *("padding_side", "truncation_side", "model_max_length", "clean_up_tokenization_spaces", "model_input_names"),
    *("bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens", "extra_special_tokens"),
)
"""Keywords that reach the tokenizer of a folder with a processor's settings; a published folder's has its own."""


class IxcProcessor(ProcessorMixin):
    """Tokenizer, image processor and prompt format in one.

    `encode()` (and `apply_chat_template(tokenize=True)`, which calls it) is the safe path: a text in a message is
    tokenised as plain text. Calling the processor on a string, `processor(text=..., images=...)`, trusts the string
    word for word, tags and `<ImageHere>` included: for prompts written by a program.

    Paths and addresses in messages are opened: a server that takes messages from strangers must load the pictures
    itself and pass them as PIL images.
    """

    image_token = IMAGE_PLACEHOLDER

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        published_quirks: bool = True,
        system: str | None = None,
        newline: bool = True,
        overview: bool = True,
        tokens_per_side: int = 12,
        system_turns: bool = True,
        images_first: bool = True,
    ) -> None:
        """
        Args:
            published_quirks: write prompts exactly as the original did: texts between two images tokenised in one
                piece with their tags, `<s>` before each of them, two `<s>` without an image; the training text and
                labels of spec (j). Off: `<s>` once, first of all; contents tokenised apart from their tags, and only
                answers trained.
            system: system text of conversations that bring none; None: the original's (with quirks) or nothing.
            newline, overview, tokens_per_side: the image layout, as in the model's configuration.
            system_turns: the model was taught system turns; if not, those of a conversation are left out.
            images_first: images stood before the text of their turn in training, so they are moved there; see
                `core/turn_rules.py`.
        """
        self.published_quirks = published_quirks
        self.system = (META_INSTRUCTION if published_quirks else "") if system is None else system
        self.newline, self.overview, self.tokens_per_side = newline, overview, tokens_per_side
        self.system_turns, self.images_first = system_turns, images_first
        super().__init__(
            image_processor, tokenizer, chat_template=chat_template or chat_format.chat_template(self.system)
        )
        rules = TurnRules(system_turns=system_turns, images_first=images_first)
        self._prompts = PromptEncoder(self.tokenizer, published_quirks=published_quirks, rules=rules)
        self.image_token_id, self.turn_end_id = self._prompts.image_token_id, self._prompts.turn_end_id

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> "IxcProcessor":
        """As every processor's; a local folder with a tokenizer but no processor's settings is a published one.

        Raises:
            UsageError: a keyword that would have no effect.
        """
        folder = Path(pretrained_model_name_or_path)
        published = folder.is_dir() and not any((folder / name).exists() for name in _PROCESSOR_FILES)
        _check_keywords(
            kwargs, known={*_SETTINGS, *_TILING, *_OF_THE_LIBRARY, *(() if published else _OF_THE_TOKENIZER)}
        )
        if published:
            own = {key: kwargs[key] for key in _SETTINGS if key in kwargs}
            tiling = {key: kwargs[key] for key in _TILING if key in kwargs}
            return cls(IxcImageProcessorPil(**tiling), IxcTokenizer.from_pretrained(folder), **own)
        return cast(IxcProcessor, super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs))

    def arrange(self, messages: Conversation) -> list[Message]:
        """Return a conversation in the form that the model was trained on: `core/turn_rules.py`."""
        return self._prompts.arrange(messages)

    @property
    def rules(self) -> TurnRules:
        """What the model was taught about its turns."""
        return self._prompts.rules

    # -- the ways in --------------------------------------------------------------------------------------------------

    def encode(
        self,
        messages: Conversation | Sequence[Conversation],
        *,
        images: Sequence[Any] | None = None,
        system: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        return_tensors: str | None = "pt",
        **options: Any,
    ) -> BatchFeature:
        """A conversation, or several of them -> a batch, with nothing in a text able to pass for a tag or an image.

        Args:
            messages: see `chat.parse_messages`.
            images: for the places without a source of their own, in order over all conversations.
            system: system text where a conversation brings none; None: the processor's; "" for none. Messages are
                arranged first (`arrange`), so a system text of their own may be left out.
            options: fields of `Options`.

        Raises:
            UsageError: bad messages, an unknown option, or another number of images than of places.
            ImageError, GeometryError: an image. ContextError: more than `max_length` tokens.
        """
        system = self.system if system is None else system
        prompts = [
            chat_format.render(
                self.arrange(conversation),
                system=system,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
            for conversation in _batch(messages)
        ]
        return self.encode_segments(prompts, images=images, return_tensors=return_tensors, **options)

    def encode_training(
        self,
        messages: Conversation | Sequence[Conversation],
        *,
        images: Sequence[Any] | None = None,
        return_tensors: str | None = "pt",
        **options: Any,
    ) -> BatchFeature:
        """Conversations that end with an answer -> a batch with `labels`; no system text is added. Spec (j)."""
        quirks = self.published_quirks
        prompts = [chat_format.render_training(c, published_quirks=quirks) for c in _batch(messages)]
        return self._encode(prompts, images, options_of({"return_tensors": return_tensors, **options}), training=True)

    def encode_segments(
        self,
        prompts: Sequence[Sequence[Segment]],
        *,
        images: Sequence[Any] | None = None,
        bos_once: bool = False,
        return_tensors: str | None = "pt",
        **options: Any,
    ) -> BatchFeature:
        """Prompts in segments -> a batch, for callers with a format of their own (benchmarks).

        Args:
            bos_once: `<s>` once, first of all, whatever the quirks say.
            options: fields of `Options`.
        """
        return self._encode(
            prompts, images, options_of({"return_tensors": return_tensors, **options}), bos_once=bos_once
        )

    def encode_beside(
        self, prompt: Sequence[Segment], inputs: Mapping[str, Any], *, bos_once: bool = False
    ) -> BatchFeature:
        """Encode another text about the same images, whose tiles are taken from inputs already encoded.

        Args:
            prompt: with the images in the order of `inputs`.
            inputs: of one conversation, as `encode_segments` returns them.
            bos_once: as in `encode_segments`.
        """
        grids = inputs.get("image_grids", ())
        counts = iter([self.num_image_tokens(*map(int, grid)) for grid in grids])
        row = self._prompts.row(prompt, counts=counts, bos=True, bos_once=bos_once)
        data = BatchFeature(self._padded([row], options_of({}), training=False), tensor_type="pt")
        return BatchFeature({**inputs, **data})

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prompts written as strings, trusted word for word -> a batch; `<ImageHere>` stands for each image.

        Args:
            images: one image or (nested) lists of them, in the order of the prompts.
            kwargs: fields of `Options`, also inside `text_kwargs`, `images_kwargs` and `common_kwargs`.
        """
        if videos is not None or audio is not None:
            raise UsageError("videos and audio are nothing this model knows; give images and text")
        given = options_of(kwargs)
        flat = None if images is None else list(flatten(images))
        if text is None:
            if flat is None:
                raise UsageError("neither text nor images were given; give at least one of them")
            return self._tiles(flat, given)
        prompts = [chat_format.from_text(prompt) for prompt in ([text] if isinstance(text, str) else text)]
        return self._encode(prompts, flat or [], given)

    def apply_chat_template(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """With `tokenize`, the safe path (`encode`), which needs no template; else the prompt as one string.

        The string is for reading: given to `processor(text=...)`, a user's own tags in it would count.

        Args:
            kwargs, processor_kwargs: fields of `Options`, and `images`.
        """
        if not tokenize:
            own = chat_template in (None, self.chat_template)  # another template may know other roles and parts
            return super().apply_chat_template(
                cast(Any, self._arranged(conversation) if own else conversation),
                chat_template=chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tokenize=False,
                **kwargs,
            )
        if chat_template not in (None, self.chat_template):
            raise UsageError("another chat template and tokenize=True do not go together; use tokenize=False")
        given = {**(processor_kwargs or {}), **kwargs}
        batch = self.encode(
            conversation,
            images=given.pop("images", None),
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            return_tensors=given.pop("return_tensors", None if return_tensors == "auto" else return_tensors),
            **{key: value for key, value in given.items() if value is not None},
        )
        return batch if return_dict else batch["input_ids"]

    def _arranged(self, conversation: Conversation | Sequence[Conversation]) -> Any:
        """One conversation or several, arranged, as a template reads them."""
        many = [[_as_mapping(turn) for turn in self.arrange(each)] for each in _batch(conversation)]
        return many if _is_batch(conversation) else many[0]

    # -- the ways out -------------------------------------------------------------------------------------------------

    def decode_answer(self, ids: Any) -> str:
        """The ids a model generated (one row, without the prompt) -> its answer, up to the end of the turn."""
        row = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        stops = (self._prompts.turn_end_id, self._prompts.eos_id)
        # Older generate() starts a row with a dummy <s>; a stop token can only follow it.
        end = next((i for i, token in enumerate(row) if token in stops), len(row))
        return self.tokenizer.decode(row[:end], skip_special_tokens=True)

    def post_process_image_text_to_text(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The pipeline's decoder: rows with or without their prompt; only a last end tag is taken off."""
        texts = self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        return [text.removesuffix(TURN_END) for text in texts]

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grids"]

    def replace_image_token(self, image_inputs: Any, image_idx: int, **kwargs: Any) -> str:
        """The string that stands for an image's tokens when a prompt is kept as a string (serving engines)."""
        grid = [int(side) for side in image_inputs["image_grids"][image_idx]]
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id)) * self.num_image_tokens(*grid)

    def num_image_tokens(self, grid_h: int, grid_w: int) -> int:
        """Tokens of an image of grid_h x grid_w tiles."""
        side = self.tokens_per_side
        return num_image_tokens(grid_h, grid_w, side=side, newline=self.newline, overview=self.overview)

    def _get_num_multimodal_tokens(
        self, image_sizes: Iterable[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Serving engines ask: tokens and tiles of images of (height, width) pixels, without the images."""
        if image_sizes is None:
            return MultiModalData()
        options = {key: kwargs[key] for key in ("hd", "partition") if kwargs.get(key) is not None}
        parts = [self.image_processor.partition_of(height, width, options) for height, width in image_sizes]
        return MultiModalData(
            num_image_tokens=[self.num_image_tokens(part.grid_h, part.grid_w) for part in parts],
            num_image_patches=[part.tiles for part in parts],
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _encode(
        self,
        prompts: Sequence[Sequence[Segment]],
        images: Sequence[Any] | None,
        options: Options,
        *,
        bos_once: bool = False,
        training: bool = False,
    ) -> BatchFeature:
        sources = _sources(prompts, images)
        pictures = self._tiles(sources, options) if sources else {}
        counts = iter([self.num_image_tokens(*map(int, grid)) for grid in pictures["image_grids"]] if sources else [])
        rows = []
        for prompt in prompts:
            row = self._prompts.row(
                prompt, counts=counts, bos=options.add_special_tokens, bos_once=bos_once or training
            )
            if training and self.published_quirks:
                row.add([self._prompts.eos_id])
            rows.append(_fitting(row, options.max_length))
        data = self._padded(rows, options, training=training)
        return BatchFeature({**data, **pictures}, tensor_type=options.return_tensors)

    def _tiles(self, sources: Sequence[Any], options: Options) -> BatchFeature:
        opened = [_opened(source) for source in sources]
        return self.image_processor(
            opened, hd=options.hd, partition=options.partition, return_tensors=options.return_tensors or "np"
        )

    def _padded(self, rows: Sequence[EncodedRow], options: Options, *, training: bool) -> dict[str, list[list[int]]]:
        longest = max(len(row.ids) for row in rows) if options.padding else 0
        left = (options.padding_side or self.tokenizer.padding_side) == "left"

        def fill(values: list[int], value: int) -> list[int]:
            extra = [value] * (longest - len(values))
            return [*extra, *values] if left else [*values, *extra]

        data = {
            "input_ids": [fill(row.ids, self._prompts.pad_id) for row in rows],
            "attention_mask": [fill([1] * len(row.ids), 0) for row in rows],
            "mm_token_type_ids": [fill(row.types, 0) for row in rows],
        }
        if training:
            turn, quirks = self._prompts.turn_ids, self.published_quirks
            data["labels"] = [fill(_labels(row, turn, quirks), IGNORED) for row in rows]
        return data


def _check_keywords(given: Mapping[str, Any], *, known: Collection[str]) -> None:
    """Refuse keywords that transformers would take and forget; `pipeline` also hands on those of its model."""
    if "_from_pipeline" in given:
        return
    unknown = sorted(key for key in given if key not in known and not key.startswith("_"))
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: no such setting of this processor; it has {', '.join(_TILING + _SETTINGS)}"
        )


def _labels(row: EncodedRow, turn: TurnIds, quirks: bool) -> list[int]:
    ids = [IGNORED if kind else token for token, kind in zip(row.ids, row.types, strict=True)]
    return chat_format.labels(ids, turn=turn, published_quirks=quirks)


def _batch(messages: Any) -> list[Conversation]:
    """One conversation or several -> several."""
    many = list(messages)
    return many if _is_batch(many) else [many]


def _is_batch(messages: Any) -> bool:
    return bool(messages) and isinstance(messages[0], list | tuple)


def _as_mapping(turn: Message) -> dict[str, Any]:
    """A message as templates read it; the sources of its images stay with the caller."""
    parts = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.content]
    return {"role": turn.role, "content": parts}


def _sources(prompts: Sequence[Sequence[Segment]], images: Sequence[Any] | None) -> list[Any]:
    """The image of every place, in order."""
    places = [segment.image for prompt in prompts for segment in prompt if segment.image is not None]
    open_places = sum(place.source is None for place in places)
    chat_format.check_images(placeholders=open_places, images=len(images or ()))
    rest = iter(images or ())
    return [next(rest) if place.source is None else place.source for place in places]


def _fitting(row: EncodedRow, max_length: int | None) -> EncodedRow:
    if max_length is not None and len(row.ids) > max_length:
        raise ContextError(
            f"the conversation has {len(row.ids):,} tokens ({sum(row.types):,} of images) and the context holds "
            f"{max_length:,}; use a lower hd, fewer images or a shorter text"
        )
    return row


def _opened(source: Any) -> Any:
    """Addresses -> bytes or a picture; anything else is the image processor's to open."""
    if not isinstance(source, str):
        return source
    if source.startswith("data:"):
        try:
            return decode_data_url(source)
        except DataUrlError as error:
            raise ImageError(f"a data URL of {len(source):,} characters: {error}; encode the file again") from error
    return _fetched(source) if source.startswith(("http://", "https://")) else source


def _fetched(address: str) -> bytes:
    """The file behind an address, to be opened like any other: same limits, same treatment of alpha."""
    try:
        with urlopen(address, timeout=FETCH_SECONDS) as answer:
            data = answer.read(MAX_FETCHED + 1)
    except (OSError, ValueError, HTTPException) as error:
        raise ImageError(f"{address} cannot be fetched ({error}); save the picture and give its path") from error
    if len(data) > MAX_FETCHED:
        raise ImageError(f"{address} has more than {MAX_FETCHED:,} bytes; reduce the picture and give its path")
    return data
