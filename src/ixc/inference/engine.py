"""One model in one process: load a folder, answer questions about pictures, stream the answer.

    folder --load--> Engine(model, processor)
    images, question, history --_encode--> batch of one --Reader.generate--> ids --_text--> Answer

Options of speed and memory, of `load` and of `Engine`:

    tile_cache     bytes of tile features kept (default 512 MB; 0: off), `cache.py`
    prefix_cache   bytes of keys and values kept (default 2 GB; 0: off), `prefix.py`
    plora          "low_rank" (default), "folded" (a second copy of the decoder's matrices, of `load` only), or "auto"
    compile        True: tower, reading and decode step through torch.compile, a static cache, no kept prefixes,
                   `compile.py`

Spec (i): greedy unless `sampling` says otherwise; generation stops at </s> or at the end of a turn; the answer is what
stands before the first stop token. Pictures belong to the first turn of a conversation, before its text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from ixc import chat
from ixc.errors import ContextError, UsageError
from ixc.geometry import partition as partition_of
from ixc.inference.cache import TILE_CACHE_BYTES, check_bytes
from ixc.inference.compile import Compiled
from ixc.inference.device import device_of, dtype_of, memory
from ixc.inference.folder import check_agreement, check_settings, found, read_processor
from ixc.inference.folding import check_plora, wants_folding
from ixc.inference.prefix import PREFIX_CACHE_BYTES
from ixc.inference.reading import Reader
from ixc.inference.sampling import GREEDY, Sampling
from ixc.inference.streaming import text_pieces, token_stream
from ixc.model import weights
from ixc.model.plora import fold
from ixc.processing.image_io import open_image, to_rgb

MAX_NEW_TOKENS = chat.CHAT_DEFAULTS.max_new_tokens
"""Longest answer where neither the caller nor the folder's generation config says: the original chat's (spec i)."""

Picture = str | os.PathLike[str] | bytes | Image.Image
"""What `ask` reads: a path, the bytes of a file, or a PIL image."""

History = Sequence[tuple[str, str]]
"""Earlier turns, oldest first: (question, answer)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What `Engine.ask` found, and what it took."""

    text: str
    """The answer, without stop tokens."""
    hd: int
    """Most tiles an image was allowed."""
    partition: str
    """Partition rule."""
    grids: tuple[tuple[int, int], ...]
    """(grid_h, grid_w) of every image, in tiles."""
    image_tokens: tuple[int, ...]
    """Tokens of every image, overview, separator and newlines counted."""
    prompt_tokens: int
    """Tokens of the whole prompt, images included."""
    new_tokens: int
    """Tokens generated, the stop token not counted."""
    seconds: float
    """Wall time from pictures to text, loading not counted."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def load(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    tile_cache: int = TILE_CACHE_BYTES,
    prefix_cache: int | None = None,
    plora: str = "low_rank",
    compile: bool = False,
) -> Engine:
    """The model and the processor of a folder, on a device.

    Args:
        folder: published or native layout; None = the embedded model.
        device: "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on the CPU, where bfloat16 is slower; else bfloat16), "float32", "bfloat16", "float16".
        tile_cache, prefix_cache, compile: as `Engine`.
        plora: "low_rank"; "folded": image tokens go through a second copy of the decoder's matrices with the addition
            folded in, no low-rank products in prefill; "auto": folded where the plan's bytes leave room for it.

    Raises:
        WeightsError: no such folder, files missing, weights damaged.
        UsageError: a device or dtype that does not exist here, an option with a value it cannot have.
        CapacityError: too little memory.
    """
    where = device_of(device)
    number = dtype_of(dtype, where)
    check_plora(plora, compile=compile)
    check_bytes("tile_cache", tile_cache)
    prefix_cache = _kept_prefixes(prefix_cache, compile=compile)
    path = found(folder)
    check_settings(path)
    weights.read_config(path)  # a wrong value there is named before the tokenizer's seconds are spent
    processor = read_processor(path)
    size = sum(file.stat().st_size for file in weights.weight_files(path)) / 1e9
    with memory(f"{path}, {size:.1f} GB of weights as stored,", where, number, "use a smaller dtype or --device cpu"):
        model = weights.load(path, dtype=number)
        check_agreement(path, model.config, processor)
        model = model.to(where).eval()
        if wants_folding(plora, path, model, compile=compile):
            fold(model)
        return Engine(
            model=model, processor=processor, tile_cache=tile_cache, prefix_cache=prefix_cache, compile=compile
        )


class Engine:
    """A model with its processor. History goes through arguments; what was computed for it is kept and found again.

    Args:
        model: an `IxcForConditionalGeneration`, on its device.
        processor: its processor.
        tile_cache: bytes of tile features kept, >= 0; the same answers to the last bit, with it or without.
        prefix_cache: bytes of keys and values kept, >= 0. None = 2 GB, none where compiled.
        compile: see `compile.py`.

    Raises:
        UsageError: a number below 0; kept prefixes and compile together.
    """

    def __init__(
        self,
        *,
        model: Any,
        processor: Any,
        tile_cache: int = TILE_CACHE_BYTES,
        prefix_cache: int | None = None,
        compile: bool = False,
    ) -> None:
        prefix_cache = _kept_prefixes(prefix_cache, compile=compile)
        self.model = model
        self.processor = processor
        self.compiled = Compiled(model) if compile else None
        self.reader = Reader(
            model, processor, tile_cache=tile_cache, prefix_cache=prefix_cache, by_mask=self.compiled is not None
        )

    @property
    def context(self) -> int:
        """Most positions of prompt and answer together."""
        return self.model.config.text_config.max_position_embeddings

    def ask(
        self,
        images: Sequence[Picture],
        question: str,
        *,
        hd: int | None = None,
        partition: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        history: History = (),
    ) -> Answer:
        """One answer.

        Args:
            images: of the first turn; none for text alone.
            hd: most tiles an image, >= 1. None = the folder's setting.
            partition: rule, a key of `geometry.RULES`. None = the folder's setting.
            max_new_tokens: longest answer, >= 1. None = the folder's setting, cut to what the context leaves.
            sampling: how tokens are chosen, e.g. `ORIGINAL_CHAT`. None = greedy.
            history: earlier turns, oldest first.

        Raises:
            ImageError, GeometryError: from reading and partitioning. ContextError: more tokens than positions.
            CapacityError: too little memory. UsageError: a number out of range.
        """
        start = perf_counter()
        job = self._prepare(images, question, hd, partition, max_new_tokens, history)
        output = self._generate(job, sampling or GREEDY)
        tokens = output[0, job.prompt_tokens :].tolist()
        return self._answer(job, self._before_stop(tokens), seconds=perf_counter() - start)

    def stream(
        self,
        images: Sequence[Picture],
        question: str,
        *,
        hd: int | None = None,
        partition: str | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        history: History = (),
    ) -> Iterator[str]:
        """The same answer in pieces while it is made. Arguments and errors as in `ask`, raised at once.

        Raises:
            UsageError: more than one beam.
        """
        chosen = sampling or GREEDY
        if chosen.num_beams > 1:
            raise UsageError(f"{chosen.num_beams} beams cannot be streamed, 1 can; call ask(), or set num_beams=1")
        job = self._prepare(images, question, hd, partition, max_new_tokens, history)
        stops = self._stops

        def generate(**extra: Any) -> None:
            self._generate(job, chosen, **extra)

        tokens = (token for token in token_stream(generate) if token not in stops)
        return text_pieces(tokens, decode=self._text)

    def _prepare(
        self,
        images: Sequence[Picture],
        question: str,
        hd: int | None,
        partition: str | None,
        max_new_tokens: int | None,
        history: History,
    ) -> _Job:
        """Everything that can be wrong with a call is found here, before the model runs."""
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise UsageError(f"images is one {type(images).__name__}; give a list, even of one")
        for text in (question, *(part for turn in history for part in turn)):
            _check_text(text)
        pictures = [_open(image) for image in images]
        looks = self.processor.image_processor
        hd = looks.hd if hd is None else hd
        rule = looks.partition if partition is None else partition
        # Counted before a canvas is made: a huge hd would ask for a canvas of gigabytes.
        parts = [partition_of(picture.width, picture.height, hd=hd, rule=rule) for picture in pictures]
        self._room(sum(self.processor.num_image_tokens(part.grid_h, part.grid_w) for part in parts), None)
        inputs = self._encode(pictures, question, history, hd, rule)
        length = inputs["input_ids"].shape[1]
        return _Job(
            inputs=inputs,
            hd=hd,
            partition=rule,
            prompt_tokens=length,
            max_new_tokens=self._room(length, max_new_tokens),
        )

    def _encode(
        self, pictures: list[Image.Image], question: str, history: History, hd: int, rule: str
    ) -> dict[str, torch.Tensor]:
        """The batch of one that `generate` takes, on the CPU."""
        turns = _conversation(pictures, question, history)
        return dict(self.processor.encode(turns, hd=hd, partition=rule, return_tensors="pt"))

    def _room(self, prompt_tokens: int, wanted: int | None) -> int:
        """How many tokens may follow the prompt."""
        left = self.context - prompt_tokens
        if left < 1:
            raise ContextError(
                f"the prompt has {prompt_tokens:,} tokens and the model {self.context:,} positions; "
                "use a smaller hd, fewer images or a shorter text"
            )
        if wanted is None:
            return min(left, self.model.generation_config.max_new_tokens or MAX_NEW_TOKENS)
        if wanted < 1:
            raise UsageError(f"max_new_tokens is {wanted}, at least 1 needed")
        if wanted > left:
            raise ContextError(
                f"{prompt_tokens:,} tokens of prompt and {wanted:,} of answer, but the model has {self.context:,} "
                f"positions; use max_new_tokens <= {left:,} or a smaller hd"
            )
        return wanted

    def _generate(self, job: _Job, sampling: Sampling, **extra: Any) -> torch.Tensor:
        return self.generate(job.inputs, max_new_tokens=job.max_new_tokens, sampling=sampling, hd=job.hd, **extra)

    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        hd: int | None = None,
        logits_processor: Sequence[Any] = (),
        **extra: Any,
    ) -> torch.Tensor:
        """One conversation, encoded and checked by the caller, through the stores: the loop every way in ends in.

        Args:
            inputs: of one row, as the processor's `encode` gives them, on the CPU.
            max_new_tokens: longest answer, >= 1; prompt and answer must fit the context.
            sampling: how tokens are chosen.
            hd: for the remedy in the line of an error.
            logits_processor: run behind the penalty and before temperature.
            extra: further arguments of the model's `generate`: streamer, stopping_criteria.

        Returns:
            (1, T + new) long, the prompt first.

        Raises:
            CapacityError: too little memory.
        """
        device, length = self.model.device, inputs["input_ids"].shape[1]
        chosen = sampling.arguments(
            prompt_tokens=length,
            has_images="image_grids" in inputs,
            start_id=self.processor.tokenizer.bos_token_id,
        )
        if logits_processor:
            chosen["logits_processor"] = [*chosen.get("logits_processor", ()), *logits_processor]
        if self.compiled is not None:
            chosen |= self.compiled.arguments(length + max_new_tokens, rows=sampling.num_beams)
        what = f"{length:,} tokens of prompt and up to {max_new_tokens:,} of answer"
        own = [device] if device.type == "cuda" else []
        with (
            memory(what, device, self.model.dtype, "lower --hd" + (f" ({hd} now)" if hd else "")),
            torch.random.fork_rng(own, enabled=sampling.seed is not None),
        ):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            return self.reader.generate(inputs, max_new_tokens=max_new_tokens, **chosen, **extra)

    @property
    def _stops(self) -> set[int]:
        """</s> and the end of a turn."""
        ids = self.model.generation_config.eos_token_id
        return set(ids if isinstance(ids, list | tuple) else [ids])

    def _before_stop(self, tokens: list[int]) -> list[int]:
        stops = self._stops
        end = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
        return tokens[:end]

    def _text(self, tokens: list[int]) -> str:
        return self.processor.decode_answer(tokens)

    def _answer(self, job: _Job, tokens: list[int], *, seconds: float) -> Answer:
        grids = tuple((int(h), int(w)) for h, w in job.inputs.get("image_grids", torch.zeros(0, 2)).tolist())
        return Answer(
            text=self._text(tokens),
            hd=job.hd,
            partition=job.partition,
            grids=grids,
            image_tokens=tuple(self.processor.num_image_tokens(*grid) for grid in grids),
            prompt_tokens=job.prompt_tokens,
            new_tokens=len(tokens),
            seconds=round(seconds, 3),
        )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A checked and encoded call."""

    inputs: dict[str, torch.Tensor]
    hd: int
    partition: str
    prompt_tokens: int
    max_new_tokens: int


def _open(image: Picture) -> Image.Image:
    return to_rgb(image) if isinstance(image, Image.Image) else open_image(image)


def _check_text(text: str) -> None:
    """A terminal hands on bytes that are no text as lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"character {error.start + 1} of {len(text)} of the text is none; write it in UTF-8") from None


def _conversation(pictures: list[Image.Image], question: str, history: History) -> list[chat.Message]:
    """Turns; the pictures stand before the text of the first one."""
    turns: list[chat.Message] = []
    for asked, answered in (*history, (question, None)):
        seen = () if turns else tuple(map(chat.Image, pictures))
        turns.append(chat.Message("user", (*seen, asked)))
        if answered is not None:
            turns.append(chat.Message("assistant", (answered,)))
    return turns


def _kept_prefixes(wanted: int | None, *, compile: bool) -> int:
    """Bytes of prefixes kept. Raises: UsageError: below 0, or beside compiled steps."""
    if compile and wanted:
        raise UsageError(f"prefix_cache is {wanted} bytes, but compiled steps keep none; leave one of them out")
    if wanted is None:
        return 0 if compile else PREFIX_CACHE_BYTES
    return check_bytes("prefix_cache", wanted)
