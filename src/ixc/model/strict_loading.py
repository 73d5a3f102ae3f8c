"""``from_pretrained`` that refuses to invent weights.

transformers fills a missing weight with random numbers and a line in the log; a reader with a random projector answers
fluent nonsense. Here missing, surplus and wrongly shaped weights are an error that names them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import GenerationConfig

from ixc.errors import WeightsError
from ixc.model.key_mapping import IGNORED_KEYS, published_name
from ixc.model.quantization.loading import is_quantized, load_quantized

_SHOWN = 5
"""Keys named in a message; the rest is counted."""


class StrictLoading:
    """Mixed in before ``PreTrainedModel``: checks what loading reports."""

    _keys_to_ignore_on_load_unexpected = list(IGNORED_KEYS)  # noqa: RUF012 - the contract wants a plain attribute

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **kwargs: Any) -> Any:
        """As ``PreTrainedModel.from_pretrained``.

        Raises:
            WeightsError: keys missing, surplus or of another shape (named by their published names), or a damaged
                file. ``ignore_mismatched_sizes=True`` lets other shapes pass, and draws those weights anew.
        """
        if is_quantized(source):
            return load_quantized(cls, source, **kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        lenient = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(  # type: ignore[misc]
                source, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
                raise
            raise WeightsError(
                f"a weights file of {source} is damaged or cut off ({_line(error)}); fetch it again"
            ) from error
        mismatched = [] if lenient else info["mismatched_keys"]
        refuse(source, missing=info["missing_keys"], surplus=info["unexpected_keys"], misshapen=mismatched)
        model.generation_config = _generation_config(model, source)
        return (model, info) if wants_info else model


def _generation_config(model: Any, source: Any) -> GenerationConfig:
    """The folder's own, with the end of a turn among its stop tokens (spec i).

    Without a generation_config.json transformers reads config.json raw, whose max_length of 16384 is the length at
    which prompts are cut and whose eos_token_id lacks the end of a turn; then ours is made from the parsed one.
    """
    found, stops = model.generation_config, model.config.text_config.eos_token_id
    if found._from_model_config and not (Path(source) / "generation_config.json").is_file():
        found = GenerationConfig.from_model_config(model.config)
    found.eos_token_id = sorted({*_ids(found.eos_token_id), *_ids(stops)}) or None
    return found


def _ids(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def refuse(source: Any, *, missing: Iterable[str], surplus: Iterable[str], misshapen: Iterable[Any]) -> None:
    """Raises a WeightsError naming the keys, if there are any.

    Args:
        source: folder or name, for the message.
        missing, surplus: keys by either name.
        misshapen: (key, shape in the file, shape in the model).
    """
    complaints = [
        _complaint("missing", sorted(published_name(key) for key in missing)),
        _complaint("unexpected", sorted(published_name(key) for key in surplus)),
        _complaint(
            "wrongly shaped",
            sorted(f"{published_name(key)} is {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in misshapen),
        ),
    ]
    found = "; ".join(complaint for complaint in complaints if complaint)
    if found:
        raise WeightsError(
            f"{source} does not fit its config.json: {found}; fetch the folder again or correct config.json"
        )


def _complaint(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{rest})"


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
