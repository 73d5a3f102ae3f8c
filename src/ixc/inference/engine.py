"""One model in one process: load a folder, answer questions about pictures, stream the answer.

    folder --load--> Engine(model, processor)
    images, question, history --RequestPreparer--> Request --CachedGenerator.generate--> ids --> Answer

    queries --Engine.batch--> batch.answer_queries --> Answer, ...

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
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Unpack, cast, overload

import torch

from ixc.core.chat_format import stop_ids
from ixc.errors import IxcError, UsageError
from ixc.inference import evidence
from ixc.inference.compile import CompiledSteps
from ixc.inference.confidence import Calibration, read_calibration
from ixc.inference.generation import CachedGenerator, PromptKeys
from ixc.inference.model_folder import check_agreement, check_settings, find_folder, read_processor
from ixc.inference.placement import DeviceMap, check_attention, check_placement
from ixc.inference.plora_merging import should_merge
from ixc.inference.query import Picture, Query, QueryOptions
from ixc.inference.request import MAX_NEW_TOKENS, Answer, Request, RequestPreparer, lower_hd, open_picture
from ixc.inference.sampling import GREEDY, Sampling
from ixc.inference.score_processors import AnswerLogprobs
from ixc.inference.settings import RENAMED_PLORA, CacheOptions, CacheSizes, EngineOptions, check_plora
from ixc.inference.stop_texts import StopWatcher, before_stop_text
from ixc.inference.streaming import EndWhen, TokenStreamer, token_stream
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
    device_map: DeviceMap | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
    quantization: str | None = None,
    **options: Unpack[EngineOptions],
) -> Engine:
    """Load the model and the processor of a folder onto a device.

    Args:
        folder: published or native layout, or the name of a model in the Hub's local cache ("owner/name", put there
            by `hf download owner/name`); None = the embedded model. Nothing is ever downloaded.
        device: "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on the CPU, else bfloat16), "float32", "bfloat16" (the faster one on a CPU with AMX or
            AVX512-BF16), "float16".
        device_map: spreads the weights over devices, instead of `device`: "auto", "balanced", "balanced_low_0",
            "sequential", or module name -> device, as `from_pretrained` of transformers; needs accelerate.
        attn_implementation: "sdpa" (default), "eager", "flash_attention_2", "flash_attention_3" or "flex_attention",
            as `from_pretrained`; the flash kernels need a GPU and float16 or bfloat16.
        revision: branch, tag or commit of a model in the Hub's cache; only with "owner/name". None = "main".
        quantization: "int8" or "int4": the decoder's linear layers and its head are rounded while they are loaded, as
            `ixc quantize` rounds them. None = as the folder stores them.
        options: fields of `settings.EngineOptions`: tile_cache, prefix_cache, cache_memory, plora, compile.

    Raises:
        WeightsError: no such folder, files missing, weights damaged.
        UsageError: a device or dtype that does not exist here, an option with a value it cannot have.
        MissingPackageError: accelerate or a flash kernel is not installed.
        CapacityError: too little memory.
    """
    chosen = read_engine_options(options)
    where = resolve_device(device)
    number = resolve_dtype(dtype, where)
    check_attention(attn_implementation, where, number)
    check_placement(device_map, device=device, quantization=quantization, chosen=chosen)
    path = find_folder(folder, revision=revision)
    check_settings(path)
    config = loading.read_config(path)  # a wrong value there is named before the tokenizer's seconds are spent
    loading.check_quantization(path, config, quantization)
    if device_map is not None and loading.is_quantized(path):
        raise UsageError(f"device_map has no effect on the quantized weights of {path}; use device")
    processor = read_processor(path)
    size = sum(file.stat().st_size for file in weight_files(path)) / 1e9
    with explain_out_of_memory(
        f"{path}, {size:.1f} GB of weights as stored,", where, number, "use a smaller dtype or --device cpu"
    ):
        model = loading.load(
            path,
            quantization=quantization,
            dtype=number,
            **{} if device_map is None else {"device_map": device_map},
            **{} if attn_implementation is None else {"attn_implementation": attn_implementation},
        )
        check_agreement(path, model.config, processor)
        if device_map is None:
            # Cast: transformers decorates `to` with a signature that pyright cannot bind to an instance.
            model = cast(Any, model).to(where)
        model = model.eval()
        if should_merge(chosen["plora"], path, model, compile=chosen["compile"]):
            merge_plora(model)
        caches, calibration = _cache_options(chosen), read_calibration(path)
        return Engine(model=model, processor=processor, compile=chosen["compile"], calibration=calibration, **caches)


def read_engine_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `load` about speed and memory, checked and with their defaults.

    Raises:
        UsageError: an unknown name, a value it cannot have, or two that exclude each other.
    """
    known = EngineOptions.__annotations__
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"load has no option {', '.join(unknown)}; use one of {', '.join(known)}")
    compile, plora = bool(given.get("compile", False)), given.get("plora", "separate")
    if plora in RENAMED_PLORA:
        warnings.warn(f"plora={plora!r} is now {RENAMED_PLORA[plora]!r}", FutureWarning, stacklevel=3)
    caches = {name: given.get(name) for name in CacheOptions.__annotations__}
    CacheSizes.of(**caches, compile=compile)
    return {"plora": check_plora(plora, compile=compile), "compile": compile, **caches}


class Engine:
    """A model with its processor. Conversations are passed as arguments; the engine holds only its caches.

    Args:
        model: an `IxcForConditionalGeneration`, on its device.
        processor: its processor.
        compile: see `compile.py`.
        calibration: of the confidence in an answer, `confidence.py`.
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
        calibration: Calibration | None = None,
        **caches: Unpack[CacheOptions],
    ) -> None:
        sizes = CacheSizes.of(**caches, compile=compile)
        self.model = model
        self.processor = processor
        self.calibration = calibration
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
            calibration=self.calibration,
        )

    def ask(self, images: Sequence[Picture], question: str, **options: Unpack[QueryOptions]) -> Answer:
        """Answer one question.

        Args:
            images: of the first turn; none for text alone.
            question: what is asked.
            options: the other fields of `Query`: hd, partition, max_new_tokens, sampling, system, stop, history.

        Raises:
            ImageError, GeometryError: from reading and partitioning. ContextError: more tokens than positions.
            CapacityError: too little memory. UsageError: a value out of range.
        """
        return self.answer(Query(images, question, **options))

    def answer(self, query: Query, *, logits_processor: Sequence[Any] = ()) -> Answer:
        """Answer one question; errors as `ask`, `logits_processor` as of `generate`."""
        start = perf_counter()
        preparer = self.preparer
        request = preparer.prepare_query(query)
        watched: dict[str, Any] = {}
        if request.stop and query.decoding.num_beams == 1:  # the answers of beams are cut when all have ended
            watcher = StopWatcher(self.processor.decode_answer, request.stop)
            watched["streamer"] = TokenStreamer(watcher.add)
            watched["stopping_criteria"] = [EndWhen(lambda: watcher.found)]
        recorder = AnswerLogprobs() if query.decoding.num_beams == 1 else None
        processors = [*([] if recorder is None else [recorder]), *logits_processor]
        output = self._generate(request, query.decoding, logits_processor=processors, **watched)
        tokens = output[0, request.prompt_tokens :].tolist()
        logprobs = None if recorder is None else recorder.rows(output)[0]
        answer = preparer.answer(request, tokens, seconds=perf_counter() - start, logprobs=logprobs)
        return self._with_evidence(query, request, answer, tokens) if query.evidence else answer

    def _with_evidence(self, query: Query, request: Request, answer: Answer, tokens: list[int]) -> Answer:
        """Return the answer with the boxes it was copied from."""
        sizes = [open_picture(image).size for image in query.images]
        boxes = evidence.find(self, request, self.preparer.before_stop(tokens), sizes)
        return replace(answer, evidence=boxes)

    def stream(self, images: Sequence[Picture], question: str, **options: Unpack[QueryOptions]) -> Iterator[str]:
        """Return the answer in pieces while it is generated. Arguments and errors as in `ask`, raised at once.

        Raises:
            UsageError: more than one beam, or `evidence`: pieces are text alone.
        """
        return self.stream_query(Query(images, question, **options))

    def stream_query(self, query: Query) -> Iterator[str]:
        """Return the answer in pieces while it is generated; errors as `stream`."""
        if query.decoding.num_beams > 1:
            raise UsageError(
                f"{query.decoding.num_beams} beams cannot be streamed, 1 can; call ask(), or set num_beams=1"
            )
        if query.evidence:
            raise UsageError("a stream gives the pieces of a text, no evidence; call ask(), or leave evidence out")
        return self._pieces(self.preparer, self.preparer.prepare_query(query), query.decoding)

    def _pieces(self, preparer: RequestPreparer, request: Request, sampling: Sampling) -> Iterator[str]:
        def generate(**extra: Any) -> None:
            self._generate(request, sampling, **extra)

        with closing(cast(Any, token_stream(generate))) as stream:
            tokens = (token for token in stream if token not in preparer.stop_ids)
            pieces = text_pieces(tokens, decode=self.processor.decode_answer)
            yield from before_stop_text(pieces, request.stop) if request.stop else pieces

    @overload
    def batch(self, queries: Sequence[Query], *, return_errors: Literal[False] = False) -> list[Answer]: ...

    @overload
    def batch(self, queries: Sequence[Query], *, return_errors: bool) -> list[Answer | IxcError]: ...

    def batch(self, queries: Sequence[Query], *, return_errors: bool = False) -> Any:
        """Answer several questions, each with its own pictures and settings, in the order given.

        Greedy questions and beam searches of one setting are generated together; sampled ones one by one, so that a
        seed gives the same answer as alone. Every answer is the one its question gets alone, up to rounding.

        Args:
            queries: questions with their settings.
            return_errors: True puts an error in the place of an answer; otherwise the first one is raised.

        Returns:
            One answer a question; `seconds` is the time of the group it was generated in.

        Raises:
            IxcError: of the first question that fails, which is named; as `ask`.
        """
        from ixc.inference.batch import answer_queries

        found = answer_queries(self, queries)
        if not return_errors:
            for each in found:
                if isinstance(each, IxcError):
                    raise each
        return found

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


Model = Engine
"""The public name, `ixc.Model`: what `ixc.load` returns."""


def _cache_options(given: Mapping[str, Any]) -> CacheOptions:
    """Return the options of the caches among others."""
    return cast(CacheOptions, {name: given[name] for name in CacheOptions.__annotations__ if name in given})
