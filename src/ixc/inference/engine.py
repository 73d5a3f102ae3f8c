"""One model in one process: load a folder, answer questions about pictures, stream the answer.

    folder --load--> Engine(model, processor)
    images, question, history --RequestPreparer--> Request --CachedGenerator.generate--> ids --> Answer

Options of speed and memory, of `load` and of `Engine`:

    tile_cache     bytes of tile features kept (default 512 MB; 0: off), `vision_cache.py`
    prefix_cache   bytes of keys and values kept (default 2 GB; 0: off), `prefix_cache.py`
    cache_memory   bytes of both together (default: their sum), `cache_memory.py`
    plora          "separate" (default), "merged" (a second copy of the decoder's matrices, of `load` only), or "auto"
    compile        True: vision tower, prefill and decode step through torch.compile, a static cache, no prefix cache,
                   `compile.py`

Spec (i): decoding is greedy unless `sampling` says otherwise; it stops at </s> or at the end of a turn.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Unpack, cast

import torch

from ixc.core.chat_format import stop_ids
from ixc.errors import UsageError
from ixc.inference.compile import CompiledSteps
from ixc.inference.generation import CachedGenerator, PromptKeys
from ixc.inference.model_folder import check_agreement, check_settings, find_folder, read_processor
from ixc.inference.plora_merging import should_merge
from ixc.inference.request import MAX_NEW_TOKENS, Answer, History, Picture, Request, RequestPreparer, lower_hd
from ixc.inference.sampling import GREEDY, Sampling
from ixc.inference.settings import RENAMED_PLORA, CacheOptions, CacheSizes, check_plora
from ixc.inference.streaming import token_stream
from ixc.inference.text_pieces import text_pieces
from ixc.model import loading
from ixc.model.checkpoint_files import weight_files
from ixc.model.plora import merge_plora
from ixc.utils.device import explain_out_of_memory, resolve_device, resolve_dtype


def load(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    plora: str = "separate",
    compile: bool = False,
    **caches: Unpack[CacheOptions],
) -> Engine:
    """Load the model and the processor of a folder onto a device.

    Args:
        folder: published or native layout; None = the embedded model.
        device: "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on the CPU, else bfloat16), "float32", "bfloat16" (the faster one on a CPU with AMX or
            AVX512-BF16), "float16".
        plora: "separate": low-rank products for image tokens; "merged": image tokens use a second copy of the
            decoder's matrices, PLoRA included; "auto": merged where that copy fits the free memory.
        compile, caches: as `Engine`.

    Raises:
        WeightsError: no such folder, files missing, weights damaged.
        UsageError: a device or dtype that does not exist here, an option with a value it cannot have.
        CapacityError: too little memory.
    """
    where = resolve_device(device)
    number = resolve_dtype(dtype, where)
    if plora in RENAMED_PLORA:
        warnings.warn(f"plora={plora!r} is now {RENAMED_PLORA[plora]!r}", FutureWarning, stacklevel=2)
    plora = check_plora(plora, compile=compile)
    CacheSizes.of(**caches, compile=compile)
    path = find_folder(folder)
    check_settings(path)
    loading.read_config(path)  # a wrong value there is named before the tokenizer's seconds are spent
    processor = read_processor(path)
    size = sum(file.stat().st_size for file in weight_files(path)) / 1e9
    with explain_out_of_memory(
        f"{path}, {size:.1f} GB of weights as stored,", where, number, "use a smaller dtype or --device cpu"
    ):
        model = loading.load(path, dtype=number)
        check_agreement(path, model.config, processor)
        # Cast: transformers decorates `to` with a signature that pyright cannot bind to an instance.
        model = cast(Any, model).to(where).eval()
        if should_merge(plora, path, model, compile=compile):
            merge_plora(model)
        return Engine(model=model, processor=processor, compile=compile, **caches)


class Engine:
    """A model with its processor. Conversations are passed as arguments; the engine holds only its caches.

    Args:
        model: an `IxcForConditionalGeneration`, on its device.
        processor: its processor.
        compile: see `compile.py`.
        caches: `tile_cache`, `prefix_cache` and `cache_memory`, bytes kept, see `settings.CacheSizes.of`; tile features
            change no bit of an answer.

    Raises:
        UsageError: a number below 0; one cache above the limit of both; a prefix cache and compile together.
    """

    def __init__(
        self,
        *,
        model: Any,
        processor: Any,
        compile: bool = False,
        **caches: Unpack[CacheOptions],
    ) -> None:
        sizes = CacheSizes.of(**caches, compile=compile)
        self.model = model
        self.processor = processor
        self.compiled = CompiledSteps(model) if compile else None
        self.generator = CachedGenerator(
            model,
            processor,
            by_mask=self.compiled is not None,
            tile_cache=sizes.tile_cache,
            prefix_cache=sizes.prefix_cache,
            cache_memory=sizes.cache_memory,
        )

    @property
    def context(self) -> int:
        """Most positions of prompt and answer together."""
        return self.model.config.text_config.max_position_embeddings

    @property
    def preparer(self) -> RequestPreparer:
        """What prepares requests for this model, by the generation config as it is now."""
        config = self.model.generation_config
        return RequestPreparer(
            processor=self.processor,
            context_length=self.context,
            max_new_tokens=config.max_new_tokens or MAX_NEW_TOKENS,
            stop_ids=stop_ids(config.eos_token_id),
        )

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
        """Answer one question.

        Args:
            images: of the first turn; none for text alone.
            hd: most tiles an image, >= 1. None = the folder's setting.
            partition: rule, a key of `core.tiling.RULES`. None = the folder's setting.
            max_new_tokens: longest answer, >= 1. None = the folder's setting, cut to what the context leaves.
            sampling: how tokens are chosen, e.g. `ORIGINAL_CHAT`. None = greedy.
            history: earlier turns, oldest first.

        Raises:
            ImageError, GeometryError: from reading and partitioning. ContextError: more tokens than positions.
            CapacityError: too little memory. UsageError: a number out of range.
        """
        start = perf_counter()
        preparer = self.preparer
        request = preparer.prepare(
            images, question, hd=hd, partition=partition, max_new_tokens=max_new_tokens, history=history
        )
        output = self._generate(request, sampling or GREEDY)
        tokens = output[0, request.prompt_tokens :].tolist()
        return preparer.answer(request, tokens, seconds=perf_counter() - start)

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
        """Return the answer in pieces while it is generated. Arguments and errors as in `ask`, raised at once.

        Raises:
            UsageError: more than one beam.
        """
        chosen = sampling or GREEDY
        if chosen.num_beams > 1:
            raise UsageError(f"{chosen.num_beams} beams cannot be streamed, 1 can; call ask(), or set num_beams=1")
        preparer = self.preparer
        request = preparer.prepare(
            images, question, hd=hd, partition=partition, max_new_tokens=max_new_tokens, history=history
        )

        def generate(**extra: Any) -> None:
            self._generate(request, chosen, **extra)

        tokens = (token for token in token_stream(generate) if token not in preparer.stop_ids)
        return text_pieces(tokens, decode=self.processor.decode_answer)

    def _generate(self, request: Request, sampling: Sampling, **extra: Any) -> torch.Tensor:
        return self.generate(
            request.inputs, max_new_tokens=request.max_new_tokens, sampling=sampling, hd=request.hd, **extra
        )

    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        hd: int | None = None,
        logits_processor: Sequence[Any] = (),
        keys: PromptKeys | None = None,
        **extra: Any,
    ) -> torch.Tensor:
        """Generate for one conversation, encoded and checked by the caller, through both caches.

        Args:
            inputs: of one row, as the processor's `encode` returns them, on the CPU.
            max_new_tokens: longest answer, >= 1; prompt and answer must fit the context.
            sampling: how tokens are chosen.
            hd: tile budget of the request, for the remedy in an error.
            logits_processor: run after the repetition penalty and before temperature.
            keys: of the prompt, where the caller has them.
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
        devices = [device] if device.type == "cuda" else []
        with (
            explain_out_of_memory(what, device, self.model.dtype, lower_hd(hd)),
            torch.random.fork_rng(devices, enabled=sampling.seed is not None),
        ):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            return self.generator.generate(inputs, max_new_tokens=max_new_tokens, keys=keys, **chosen, **extra)
