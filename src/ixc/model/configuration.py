"""Configuration of the model (vision encoder, language model, both), in nested form or the published flat form.

Paper: InternLM-XComposer2-4KHD, section 3.1 (CLIP ViT-L/14-336, 2x2 merge, InternLM2-7B with Partial LoRA).
The published folder writes one flat ``config.json`` (``model_type`` internlm2, internlm or internlmxcomposer2) that
holds the language model only; the vision tower and the PLoRA ranks were constants in code and are defaults here.

    flat:    {"model_type": "internlm2", "hidden_size": 4096, ..., ["vision_config": {...}]}
    nested:  {"model_type": "ixc", "text_config": {...}, "vision_config": {...}, "image_token_id": ...}
"""

# No `from __future__ import annotations` here: it turns types into strings, which @strict does not check.

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ixc.errors import UsageError
from ixc.model.key_mapping import MODEL_TYPE
from ixc.model.sizes import MERGES, VISION_ACTIVATIONS

PUBLISHED_MODEL_TYPES = ("internlm2", "internlm", "internlmxcomposer2")
"""Values of ``model_type`` under which the published weights may come; all mean the flat form."""

ARCHITECTURE = "IxcForConditionalGeneration"
"""The class that runs published folders."""

ROPE_TYPES = ("default", "dynamic")
"""Rotary embeddings of the decoder: plain, or with dynamic NTK (spec h)."""

TEXT_ACTIVATIONS = ("silu",)
"""Values of ``hidden_act`` of the decoder."""

_IMAGE_TOKEN_FROM_END = 7
"""92544 - 7 = 92537, [UNUSED_TOKEN_140]: the last token of the published vocabulary that no release uses."""

_TURN_END_FROM_END = 2
"""92544 - 2 = 92542, [UNUSED_TOKEN_145]: the end of a turn, beside </s> the second stop token (spec i)."""


@strict
class IxcVisionConfig(PreTrainedConfig):
    """The CLIP ViT of the tiles; defaults are ViT-L/14-336. Sizes in channels, ``image_size``/``patch_size`` in px."""

    model_type: ClassVar[str] = "ixc_vision"
    base_config_key: ClassVar[str] = "vision_config"

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    num_channels: int = 3
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    attention_dropout: float | int = 0.0
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        _positive(self, "hidden_size", "intermediate_size", "num_attention_heads", "image_size", "patch_size")
        _multiple(self, "hidden_size", "num_attention_heads")
        _multiple(self, "image_size", "patch_size")
        _one_of("hidden_act of the vision tower", self.hidden_act, VISION_ACTIVATIONS)
        _one_of("num_channels", self.num_channels, (3,))
        super().__post_init__(**kwargs)

    @property
    def patches_per_side(self) -> int:
        """Patches on one side of a tile: 24 as published."""
        return self.image_size // self.patch_size


@strict
class IxcTextConfig(PreTrainedConfig):
    """InternLM2 with PLoRA; defaults are the published 7B.

    ``plora_r``/``plora_alpha`` hold for wo, w1, w2 and w3, ``plora_qkv_*`` for wqkv: the published checkpoint differs
    from the paper's "rank 256 everywhere" there (spec g). ``rope_parameters`` holds rope_type, rope_theta, factor.
    """

    model_type: ClassVar[str] = "ixc_text"
    base_config_key: ClassVar[str] = "text_config"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]

    vocab_size: int = 92544
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float | int = 0.02
    rms_norm_eps: float | int = 1e-5
    use_cache: bool = True
    pad_token_id: int | None = 2
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    attention_dropout: float | int = 0.0
    plora_r: int = 256
    plora_alpha: float | int = 256
    plora_qkv_r: int = 8
    plora_qkv_alpha: float | int = 16
    plora_dropout: float | int = 0.05

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        _positive(self, "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        _positive(self, "max_position_embeddings", "plora_r", "plora_qkv_r")
        _multiple(self, "num_attention_heads", "num_key_value_heads")
        _one_of("hidden_act of the decoder", self.hidden_act, TEXT_ACTIVATIONS)
        _one_of("tie_word_embeddings", self.tie_word_embeddings, (False,))
        _one_of("bias", kwargs.pop("bias", False), (False,))  # of the flat form; the published maps have none
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        scaling = kwargs.pop("rope_scaling", None) or self.rope_parameters
        theta = kwargs.pop("rope_theta", None)
        self.rope_parameters = _rope_parameters(scaling, theta=theta)
        super().__post_init__(**kwargs)


@strict
class IxcConfig(PreTrainedConfig):
    """Configuration of the whole model: vision encoder, language model and projector.

    ``image_token_id``: the id that stands for one image token in ``input_ids`` (never text, never sampled);
    ``merge``: one of ``MERGES``; ``newline``/``overview``: switches of the paper's ablations (tables 8 and 7).
    Accepts the flat published form as well: language-model fields given at the top level.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    sub_configs: ClassVar[Any] = {"vision_config": IxcVisionConfig, "text_config": IxcTextConfig}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]

    # A dict, a config or None when given, and a config after __post_init__; hence Any.
    vision_config: Any = None
    text_config: Any = None
    image_token_id: int | None = None
    merge: str = "concat"
    newline: bool = True
    overview: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        _one_of("merge", self.merge, MERGES)
        _one_of("tie_word_embeddings", self.tie_word_embeddings, (False,))
        kwargs.pop("model_type", None)  # of the published flat form; ours is a class attribute
        text, vision = _object("text_config", self.text_config), _object("vision_config", self.vision_config)
        if text is None:
            text, kwargs = _from_flat(kwargs)
            self.architectures = [ARCHITECTURE]  # a flat file names the original's class
        if isinstance(text, dict):
            text = IxcTextConfig(**text)
        if not isinstance(vision, PreTrainedConfig):
            vision = IxcVisionConfig(**_known(vision or {}, IxcVisionConfig))
        self.text_config, self.vision_config = text, vision
        if self.image_token_id is None:
            self.image_token_id = text.vocab_size - _IMAGE_TOKEN_FROM_END
        super().__post_init__(**kwargs)


def _object(name: str, value: Any) -> Any:
    if value is None or isinstance(value, dict | PreTrainedConfig):
        return value
    raise UsageError(f"{name} is a {type(value).__name__}, an object with fields needed")


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a value that is not supported. Raises: UsageError."""
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")


def _positive(config: PreTrainedConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}, at least 1 needed")


def _multiple(config: PreTrainedConfig, whole: str, part: str) -> None:
    if getattr(config, whole) % getattr(config, part):
        raise UsageError(f"{whole} is {getattr(config, whole)}, a multiple of {part} = {getattr(config, part)} needed")


def _rope_parameters(given: Any, *, theta: Any) -> dict[str, Any]:
    """Convert old ``rope_scaling`` {"type", "factor"} or new ``rope_parameters`` to one dict."""
    parameters = dict(_object("rope_parameters", given) or {})
    kind = parameters.pop("type", None)
    parameters.setdefault("rope_type", kind or "default")
    parameters.setdefault("rope_theta", 1_000_000.0 if theta is None else theta)
    _one_of("rope_type", parameters["rope_type"], ROPE_TYPES)
    for name in ("rope_theta", "factor") if parameters["rope_type"] == "dynamic" else ("rope_theta",):
        value = parameters.get(name)
        if isinstance(value, bool) or not isinstance(value, float | int) or value <= 0:
            raise UsageError(f"{name} of the rotary embedding is {value!r}, a number above 0 needed")
        parameters[name] = float(value)
    return parameters


def _known(given: dict[str, Any], config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """Return the entries of a published sub-config that its class has fields for (CLIP's also has projection_dim)."""
    return {key: value for key, value in given.items() if hasattr(config_class, key)}


def _from_flat(given: dict[str, Any]) -> tuple[IxcTextConfig, dict[str, Any]]:
    """Split the flat form into the language model, whose fields lie at the top level, and the other fields."""
    names = set(IxcTextConfig.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    names |= {"rope_theta", "rope_scaling", "bias"}
    flat = {key: value for key, value in given.items() if key in names}
    rest = {key: value for key, value in given.items() if key not in names}
    text = IxcTextConfig(**flat)
    if flat:
        text.eos_token_id = _stop_tokens(text, turn_end=rest.pop("im_end_id", None))
    return text, rest


def _stop_tokens(text: IxcTextConfig, *, turn_end: int | None) -> list[int]:
    """Return </s> and the end of a turn; a flat config.json names only the first."""
    eos = text.eos_token_id
    ids = [] if eos is None else list(eos) if isinstance(eos, list) else [eos]
    end = text.vocab_size - _TURN_END_FROM_END if turn_end is None else turn_end
    return [*ids, end] if end not in ids else ids
