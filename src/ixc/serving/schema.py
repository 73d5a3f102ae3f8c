"""Fields of a chat completion with their types and bounds, checked by pydantic; `openai.py` says what they mean."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_TOP_LOGPROBS = 20
"""Most alternatives of a token, as OpenAI has it."""

MAX_STOP_IDS = 100
"""Most `stop_token_ids` of a request."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class StreamOptions(_Strict):
    """`stream_options`: what a stream gives besides its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class TilingOptions(_Strict):
    """`hd` and `partition`: how images are cut into tiles; None = the server's setting."""

    hd: Annotated[int | None, Field(ge=1)] = None
    partition: str | None = None


class TemplateOptions(_Strict):
    """`chat_template_kwargs`; see `PromptFormat`."""

    published: bool | None = None
    assistant: str | None = None
    images_in_place: bool | None = None
    enable_thinking: Any = None
    thinking: Any = None


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: str
    content: Any = None
    """Read by `content.py`, whose errors name the part."""
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class ChatBody(TilingOptions):
    """The body of a request."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    top_k: Annotated[int | None, Field(ge=-1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2, allow_inf_nan=False)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2, allow_inf_nan=False)] = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = None
    stop_token_ids: Annotated[list[int] | None, Field(max_length=MAX_STOP_IDS)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=10, allow_inf_nan=False)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    mm_processor_kwargs: TilingOptions | None = None
    n: Annotated[int | None, Field(ge=1)] = None
    use_beam_search: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None
