"""One greedy answer of a small native folder on the CPU, without importing transformers: the way of `ixc ask`.

    folder --reader--> StandaloneReader --prepare--> Request (no torch yet) --StandaloneModel--> tokens --> text

`reader` gives None for every folder or machine that this does not cover: published and quantized folders, large
weights, a GPU. The caller then takes `engine.load`; both give the same tokens, which a test holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ixc.core.token_layout import MERGE
from ixc.inference.request import MAX_NEW_TOKENS, Answer, Picture, Request, Rules, answer_of, prepare
from ixc.inference.text_pieces import text_pieces
from ixc.model.sizes import ModelSizes, read_sizes
from ixc.processing import standalone
from ixc.processing.standalone import StandaloneProcessor

if TYPE_CHECKING:
    from ixc.model.standalone import StandaloneModel

WEIGHTS, LARGEST = "model.safetensors", 64 << 20
"""The one weights file that is read, and its bytes up to which imports outweigh the model: five embedded models."""

_GENERATION = {
    "_from_model_config": (False,), "do_sample": (False, None), "output_attentions": (False,),
    "output_hidden_states": (False,), "use_cache": (True,),
}  # fmt: skip
"""Keys of generation_config.json that change no greedy token at these values."""

_READ = ("bos_token_id", "eos_token_id", "max_new_tokens", "pad_token_id", "transformers_version")
"""Its other keys."""


class StandaloneReader:
    """A folder that can be read without transformers.

    Args:
        folder: of the model.
        processor: its processor.
        sizes: of its layers.
        stops: ids that end an answer.
        longest: answer where nobody says, in tokens.
    """

    def __init__(
        self, folder: Path, *, processor: StandaloneProcessor, sizes: ModelSizes, stops: set[int], longest: int
    ) -> None:
        self.folder, self.sizes, self.stops = folder, sizes, stops
        context = sizes.text_config.max_position_embeddings
        self.rules = Rules(processor=processor, context=context, max_new_tokens=longest)
        self._model: StandaloneModel | None = None

    def prepare(self, images: Sequence[Picture], question: str, **options: Any) -> Request:
        """The request, opened and checked before torch is imported. Arguments and errors as `request.prepare`."""
        return prepare(self.rules, images, question, return_tensors="np", **options)

    def load(self, *, device: str) -> bool:
        """Imports torch and loads the weights.

        Args:
            device: "auto" or "cpu".

        Returns:
            False where the full engine must decide: "auto" is a GPU here, or the weights are not exactly this model's.
        """
        from ixc.model.standalone import StandaloneModel
        from ixc.utils.device import resolve_device

        if resolve_device(device).type != "cpu":
            return False
        self._model = StandaloneModel(self.sizes)
        return self._model.load_weights(self.folder)

    def stream(self, request: Request) -> Iterator[str]:
        """The answer in pieces while it is made."""
        return text_pieces(self._tokens(request), decode=self.rules.processor.decode_answer)

    def answer(self, request: Request) -> Answer:
        """The whole answer. Its seconds are those of the model."""
        start = perf_counter()
        tokens = list(self._tokens(request))
        return answer_of(self.rules, request, tokens, seconds=perf_counter() - start)

    def _tokens(self, request: Request) -> Iterator[int]:
        """Until the first stop token. Raises: CapacityError: too little memory."""
        import torch

        from ixc.utils.device import explain_out_of_memory

        assert self._model is not None, "load() comes first"
        inputs = {name: torch.from_numpy(value) for name, value in request.inputs.items()}
        what = f"{request.prompt_tokens:,} tokens of prompt and up to {request.max_new_tokens:,} of answer"
        with explain_out_of_memory(what, torch.device("cpu"), torch.float32, f"lower --hd ({request.hd} now)"):
            for token in self._model.greedy(inputs, max_new_tokens=request.max_new_tokens):
                if token in self.stops:
                    return
                yield token


def reader(folder: Path) -> StandaloneReader | None:
    """The reader of a folder; None where the full engine must decide.

    Args:
        folder: model folder, its settings JSON objects (`folder.check_settings`).
    """
    if any(path.name != WEIGHTS for path in folder.glob("model*.safetensors")):
        return None
    weights = folder / WEIGHTS
    if not weights.is_file() or weights.stat().st_size > LARGEST:
        return None
    sizes, processor, chosen = read_sizes(folder), standalone.read(folder), _generation(folder)
    if sizes is None or processor is None or chosen is None or not _agree(processor, sizes):
        return None
    stops = {*_ids(chosen.get("eos_token_id")), *_ids(sizes.text_config.eos_token_id)}
    longest = chosen.get("max_new_tokens") or MAX_NEW_TOKENS
    return StandaloneReader(folder, processor=processor, sizes=sizes, stops=stops, longest=longest)


def _generation(folder: Path) -> dict[str, Any] | None:
    """generation_config.json; None where it is missing or sets more than this file knows."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    known = all(key in _READ or (key in _GENERATION and value in _GENERATION[key]) for key, value in found.items())
    longest = found.get("max_new_tokens")
    return found if known and (longest is None or (type(longest) is int and longest > 0)) else None


def _agree(processor: StandaloneProcessor, sizes: ModelSizes) -> bool:
    """Whether the processor writes prompts for this model, as `folder.check_agreement` finds it."""
    vision = sizes.vision_config
    return (
        processor.image_token_id == sizes.image_token_id
        and (processor.newline, processor.overview) == (sizes.newline, sizes.overview)
        and processor.tokens_per_side == vision.image_size // vision.patch_size // MERGE
        and len(processor.tokenizer) <= sizes.text_config.vocab_size
    )


def _ids(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


__all__ = ["StandaloneReader", "reader"]
