"""Pictures and text -> arrays of one conversation, without transformers, for a native folder. Spec (a), (i).

    folder --read--> StandaloneProcessor --encode--> input_ids, mm_token_type_ids, pixel_values, image_grids

Rendering, tokenising a person's text, partitions, canvases and token counts are those of `IxcProcessor`; only the
library's shell around them is missing. `read` declines settings it does not know, and the caller takes that class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from ixc.core import chat_format
from ixc.core.tiling import RULES, partition
from ixc.core.token_layout import num_image_tokens
from ixc.core.turn_rules import TurnRules
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.processing.prompt_encoding import PromptEncoder

_PROCESSOR = {
    "image_processor": dict, "newline": bool, "overview": bool, "processor_class": str, "published_quirks": bool,
    "system": str, "tokens_per_side": int,
}  # fmt: skip
"""Keys of processor_config.json, all of them needed, and their types."""

_RULES = {"images_first": bool, "system_turns": bool}
"""Its keys that older folders lack."""

_TILING = {"hd": int, "image_processor_type": str, "partition": str}
"""Keys of its image_processor."""

_TOKENIZER = {
    "backend": "tokenizers", "clean_up_tokenization_spaces": False, "padding_side": "left",
    "split_special_tokens": True, "tokenizer_class": "TokenizersBackend",
}  # fmt: skip
"""Keys of tokenizer_config.json and the value each must have."""

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_WITHOUT_EFFECT = ("model_input_names", "model_max_length", "processor_class")
"""Its other keys: names of control tokens, and what changes no id."""

_OTHER_FILES = ("preprocessor_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model")
"""Files whose settings are not read here."""


class StandaloneTokenizer:
    """A `tokenizers` backend behind the calls that `PromptEncoder` makes; control tokens in a text are letters."""

    def __init__(self, backend: Tokenizer, special: Mapping[str, str]) -> None:
        self.backend = backend
        self.backend.encode_special_tokens = True
        self.bos_token, self.eos_token, self.pad_token = (special[name] for name in _SPECIAL[:3])

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> dict[str, list[int]]:
        """Ids of a text, as `processing.plain_text.raw_ids` asks for them."""
        assert split_special_tokens
        return {"input_ids": self.backend.encode(text, add_special_tokens=add_special_tokens).ids}

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a piece."""
        return self.backend.token_to_id(token)

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """The piece of an id."""
        return self.backend.id_to_token(token)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without control tokens."""
        return self.backend.decode(list(ids), skip_special_tokens=True)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The folder's usual setting."""

    hd: int
    """Most tiles an image."""
    partition: str
    """Partition rule."""


class StandaloneProcessor:
    """Tokenizer, tiling and prompt format of a native folder.

    Args:
        tokenizer: of the folder.
        settings: the folder's processor_config.json.
    """

    def __init__(self, tokenizer: StandaloneTokenizer, settings: Mapping[str, Any]) -> None:
        self.tokenizer, self.system = tokenizer, settings["system"]
        self.newline, self.overview = settings["newline"], settings["overview"]
        self.tokens_per_side = settings["tokens_per_side"]
        looks = settings["image_processor"]
        self.image_processor = Tiling(hd=looks["hd"], partition=looks["partition"])
        quirks = settings["published_quirks"]
        self.rules = TurnRules(**{name: settings[name] for name in _RULES if name in settings})
        self._prompts = PromptEncoder(cast(Any, tokenizer), published_quirks=quirks, rules=self.rules)
        self.image_token_id = self._prompts.image_token_id

    def encode(
        self,
        messages: Sequence[chat_format.Message],
        *,
        hd: int,
        partition: str,
        return_tensors: str,
        system: str | None = None,
    ) -> dict[str, np.ndarray]:
        """One conversation as arrays of `IxcProcessor.encode`: (1, T) ids and types, tiles, grids.

        Args:
            messages: whose images are RGB pictures.
            hd, partition: of the tiling.
            return_tensors: "np".
            system: system text; None = the folder's.
        """
        assert return_tensors == "np"
        chosen = self.system if system is None else system
        prompt = chat_format.render(self._prompts.arrange(messages), system=chosen)
        pictures = [segment.image.source for segment in prompt if segment.image is not None]
        found = self._tiles(pictures, hd, partition) if pictures else {}
        counts = iter([self.num_image_tokens(*map(int, grid)) for grid in found.get("image_grids", ())])
        row = self._prompts.row(prompt, counts=counts, bos=True, bos_once=False)
        return {"input_ids": np.array([row.ids]), "mm_token_type_ids": np.array([row.types]), **found}

    def _tiles(self, pictures: Sequence[Image.Image], hd: int, rule: str) -> dict[str, np.ndarray]:
        cut, grids = [], []
        for picture in pictures:
            part = partition(picture.width, picture.height, hd=hd, rule=rule)
            cut.append(tiles(resize_to_canvas(picture, partition=part), tile=part.tile))
            grids.append((part.grid_h, part.grid_w))
        return {"pixel_values": np.concatenate(cut), "image_grids": np.array(grids, dtype=np.int64)}

    def num_image_tokens(self, grid_h: int, grid_w: int) -> int:
        """Tokens of an image of grid_h x grid_w tiles."""
        side = self.tokens_per_side
        return num_image_tokens(grid_h, grid_w, side=side, newline=self.newline, overview=self.overview)

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The ids a model generated, without the prompt -> its answer, up to the end of the turn."""
        stops = (self._prompts.turn_end_id, self._prompts.eos_id)
        end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
        return self.tokenizer.decode(ids[:end])


def read(folder: Path) -> StandaloneProcessor | None:
    """The processor of a native folder; None where `IxcProcessor` must decide.

    Args:
        folder: model folder; its settings are JSON objects where they exist.
    """
    if any((folder / name).exists() for name in _OTHER_FILES):
        return None
    settings, special = _object(folder / "processor_config.json"), _object(folder / "tokenizer_config.json")
    backend = _object(folder / "tokenizer.json")
    if settings is None or special is None or backend is None:
        return None
    rules = {name: kind for name, kind in _RULES.items() if name in settings}
    if not _typed(settings, _PROCESSOR | rules) or not _typed(settings["image_processor"], _TILING):
        return None
    if settings["image_processor"]["hd"] < 1 or settings["image_processor"]["partition"] not in RULES:
        return None
    if not _plain(special, backend):
        return None
    try:
        tokenizer = StandaloneTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), special)
    except Exception:  # the library raises a bare Exception for a damaged file; the full loader names it
        return None
    return StandaloneProcessor(tokenizer, settings)


def _plain(special: Mapping[str, Any], backend: Mapping[str, Any]) -> bool:
    """Whether the library would add nothing to the backend: control tokens are in it, and no setting is unknown."""
    known = {*_TOKENIZER, *_SPECIAL, *_WITHOUT_EFFECT}
    control = {token["content"] for token in backend.get("added_tokens", ()) if token.get("special")}
    return (
        set(special) <= known
        and all(special.get(name) == value for name, value in _TOKENIZER.items())
        and all(special.get(name) in control for name in _SPECIAL)
        and backend.get("truncation") is None
        and backend.get("padding") is None
    )


def _typed(given: Mapping[str, Any], wanted: Mapping[str, type]) -> bool:
    return set(given) == set(wanted) and all(type(given[name]) is kind for name, kind in wanted.items())


def _object(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


__all__ = ["StandaloneProcessor", "StandaloneTokenizer", "Tiling", "read"]
