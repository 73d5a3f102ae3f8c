"""Messages inside vLLM become ids by this package's prompt encoder, never through a string (spec i).

vLLM renders a template and tokenises the whole, so a user who writes an end tag ends the turn. Here each content is
tokenised by itself, as in `ixc ask`: what looks like a special token in a text is text, and there is one placeholder
for each image of the request, which `serving.vllm.inputs` expands to the image's number of tokens.
"""

# pyright: reportMissingImports=false
# vLLM is an extra that developers' machines lack, and its modules are imported at the top of this file.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media.connector import merge_media_io_kwargs
from vllm.renderers.base import BaseRenderer
from vllm.renderers.chat_utils import parse_chat_messages, parse_chat_messages_async
from vllm.tokenizers.hf import get_cached_tokenizer

from ixc.errors import IxcError
from ixc.inference.model_folder import read_processor
from ixc.processing.prompt_encoding import PromptEncoder
from ixc.serving.vllm import prompt as vllm_prompt

AS_FILED = {"image": {"image_mode": None}}
"""Images keep the mode of their file; this package's own conversion to RGB treats alpha and profiles."""


class IxcVllmTokenizer:
    """Loads the tokenizer of a folder, published or native."""

    @classmethod
    def from_pretrained(cls, path_or_repo_id: str | Path, *args: Any, **kwargs: Any) -> Any:
        return get_cached_tokenizer(read_processor(Path(path_or_repo_id)).tokenizer)


class IxcRenderer(BaseRenderer[Any]):
    """Turns messages into a prompt for this model, in vLLM's server."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        processor = read_processor(Path(config.model_config.model))
        self.system = processor.system
        self.prompts = PromptEncoder(
            processor.tokenizer, published_quirks=processor.published_quirks, rules=processor.rules
        )

    def render_messages(self, messages: Any, params: Any) -> tuple[Any, Any]:
        return self._prompt(params, *parse_chat_messages(messages, **self._reading(params)))

    async def render_messages_async(self, messages: Any, params: Any) -> tuple[Any, Any]:
        return self._prompt(params, *await parse_chat_messages_async(messages, **self._reading(params)))

    def _reading(self, params: Any) -> dict[str, Any]:
        return {
            "model_config": self.model_config,
            "content_format": "openai",
            "media_io_kwargs": merge_media_io_kwargs(AS_FILED, params.media_io_kwargs),
            "mm_processor_kwargs": params.mm_processor_kwargs,
        }

    def _prompt(self, params: Any, conversation: Any, images: Any, names: Any) -> tuple[Any, Any]:
        prompt: dict[str, Any] = {"prompt_token_ids": self.ids(conversation, params.chat_template_kwargs)}
        if images is not None:
            prompt["multi_modal_data"] = images
        if names is not None:
            prompt["multi_modal_uuids"] = names
        return conversation, prompt

    def ids(self, conversation: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[int]:
        """Return the ids of a conversation's prompt, one placeholder per image.

        Raises:
            VLLMValidationError: a role, a part or an option that this model does not have.
        """
        try:
            return vllm_prompt.ids(self.prompts, conversation, options, system=self.system)
        except IxcError as error:
            raise VLLMValidationError(str(error)) from None
