"""One greedy answer of a small native folder on the CPU without importing transformers, for `ixc ask`.

    folder --open_folder--> StandaloneEngine --prepare--> Request (no torch yet) --StandaloneModel--> tokens --> text

Importing transformers takes longer than a whole answer of the embedded model. `open_folder` returns None for what this
does not cover: published and quantized folders, large weights, a GPU. The caller then takes `engine.load`; a test
checks that both give the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ixc.core.chat_format import stop_ids
from ixc.core.token_layout import MERGE
from ixc.inference.confidence import read_calibration
from ixc.inference.query import Query
from ixc.inference.request import MAX_NEW_TOKENS, Answer, Request, RequestPreparer, lower_hd
from ixc.inference.stop_texts import StopWatcher, before_stop_text
from ixc.inference.text_pieces import text_pieces
from ixc.model.sizes import ModelSizes, read_sizes
from ixc.processing import standalone
from ixc.processing.standalone import StandaloneProcessor

if TYPE_CHECKING:
    from ixc.model.standalone import StandaloneModel

WEIGHTS, MAX_WEIGHTS_BYTES = "model.safetensors", 64 << 20
"""The only weights file read here, and the size up to which imports take longer than the model: 64 MiB."""

_NEUTRAL_SETTINGS = {
    "_from_model_config": (False,), "do_sample": (False, None), "output_attentions": (False,),
    "output_hidden_states": (False,), "use_cache": (True,),
}  # fmt: skip
"""Keys of generation_config.json with the values at which they change no greedy token."""

_KNOWN_SETTINGS = ("bos_token_id", "eos_token_id", "max_new_tokens", "pad_token_id", "transformers_version")
"""The other keys of generation_config.json that may be there."""


class StandaloneEngine:
    """A model folder that runs without transformers.

    Args:
        folder: of the model.
        processor: its processor.
        sizes: of its layers.
        stops: ids that end an answer.
        longest: default length of an answer, in tokens.
    """

    def __init__(
        self, folder: Path, *, processor: StandaloneProcessor, sizes: ModelSizes, stops: frozenset[int], longest: int
    ) -> None:
        self.folder, self.sizes = folder, sizes
        self.preparer = RequestPreparer(
            processor=processor,
            context_length=sizes.text_config.max_position_embeddings,
            max_new_tokens=longest,
            stop_ids=stops,
            calibration=read_calibration(folder),
        )
        self._model: StandaloneModel | None = None

    def prepare(self, query: Query) -> Request:
        """Prepare a request without importing torch. Errors as `RequestPreparer.prepare`.

        Args:
            query: greedy, without sampling and beams.
        """
        return self.preparer.prepare_query(query, return_tensors="np")

    def load(self, *, device: str) -> bool:
        """Import torch and load the weights.

        Args:
            device: "auto" or "cpu".

        Returns:
            False where the full engine must take over: "auto" is a GPU here, or the weights do not fit exactly.
        """
        from ixc.model.standalone import StandaloneModel
        from ixc.utils.device import resolve_device

        if resolve_device(device).type != "cpu":
            return False
        self._model = StandaloneModel(self.sizes)
        return self._model.load_weights(self.folder)

    def stream(self, request: Request) -> Iterator[str]:
        """Return the answer in pieces while it is generated."""
        tokens = (token for token, _ in self._tokens(request) if token not in self.preparer.stop_ids)
        pieces = text_pieces(tokens, decode=self.preparer.processor.decode_answer)
        return before_stop_text(pieces, request.stop) if request.stop else pieces

    def answer(self, request: Request) -> Answer:
        """Return the whole answer; its seconds are those of the model alone."""
        start = perf_counter()
        watcher, tokens, logprobs = StopWatcher(self.preparer.processor.decode_answer, request.stop), [], []
        for token, logprob in self._tokens(request):
            tokens.append(token)
            logprobs.append(logprob)
            if token in self.preparer.stop_ids:
                break
            watcher.add(token)
            if watcher.found:
                break
        return self.preparer.answer(request, tokens, seconds=perf_counter() - start, logprobs=logprobs)

    def _tokens(self, request: Request) -> Iterator[tuple[int, float]]:
        """Yield tokens with their log probabilities, a stop token last. Raises: CapacityError: too little memory."""
        import torch

        from ixc.utils.device import explain_out_of_memory

        assert self._model is not None, "load() comes first"
        inputs = {name: torch.from_numpy(value) for name, value in request.inputs.items()}
        what = f"{request.prompt_tokens:,} tokens of prompt and up to {request.max_new_tokens:,} of answer"
        with explain_out_of_memory(what, torch.device("cpu"), torch.float32, lower_hd(request.hd)):
            for token, logprob in self._model.greedy(inputs, max_new_tokens=request.max_new_tokens):
                yield token, logprob
                if token in self.preparer.stop_ids:
                    return


def open_folder(folder: Path) -> StandaloneEngine | None:
    """Open a folder; None where the full engine must take over.

    Args:
        folder: model folder, its settings JSON objects (`model_folder.check_settings`).
    """
    if any(path.name != WEIGHTS for path in folder.glob("model*.safetensors")):
        return None
    weights = folder / WEIGHTS
    if not weights.is_file() or weights.stat().st_size > MAX_WEIGHTS_BYTES:
        return None
    sizes, processor, chosen = read_sizes(folder), standalone.read(folder), _generation(folder)
    if sizes is None or processor is None or chosen is None or not _agree(processor, sizes):
        return None
    stops = stop_ids(chosen.get("eos_token_id"), sizes.text_config.eos_token_id)
    longest = chosen.get("max_new_tokens") or MAX_NEW_TOKENS
    return StandaloneEngine(folder, processor=processor, sizes=sizes, stops=stops, longest=longest)


def _generation(folder: Path) -> dict[str, Any] | None:
    """Read generation_config.json; None where it is missing or sets more than this file knows."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    known = all(
        key in _KNOWN_SETTINGS or (key in _NEUTRAL_SETTINGS and value in _NEUTRAL_SETTINGS[key])
        for key, value in found.items()
    )
    longest = found.get("max_new_tokens")
    return found if known and (longest is None or (type(longest) is int and longest > 0)) else None


def _agree(processor: StandaloneProcessor, sizes: ModelSizes) -> bool:
    """Return whether the processor writes prompts for this model, as `model_folder.check_agreement` checks."""
    vision = sizes.vision_config
    return (
        processor.image_token_id == sizes.image_token_id
        and (processor.newline, processor.overview) == (sizes.newline, sizes.overview)
        and processor.tokens_per_side == vision.image_size // vision.patch_size // MERGE
        and len(processor.tokenizer) <= sizes.text_config.vocab_size
    )


__all__ = ["StandaloneEngine", "open_folder"]
