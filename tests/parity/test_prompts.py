"""Prompts against the original chat and VLMEvalKit's adapter, spec (i): strings and ids, case by case."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ixc.core import chat_format
from ixc.core.chat_format import Segment
from ixc.processing import IxcImageProcessorPil, IxcProcessor, IxcTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"
CHATS = json.loads((GOLDENS / "reference" / "prompts.json").read_text())["cases"]
BENCHMARKS = json.loads((GOLDENS / "reference" / "vlmevalkit.json").read_text())["cases"]
PICTURE = Image.new("RGB", (9, 9))


@pytest.fixture(scope="module")
def processor(published_tokenizer: IxcTokenizer) -> IxcProcessor:
    return IxcProcessor(IxcImageProcessorPil(), published_tokenizer)


def words(batch) -> list[int]:
    """Ids without those of images."""
    kinds = batch["mm_token_type_ids"][0].tolist()
    return [token for token, kind in zip(batch["input_ids"][0].tolist(), kinds, strict=True) if not kind]


@pytest.mark.parametrize("case", CHATS, ids=range(len(CHATS)))
def test_chat_format_equals_the_original_chat(processor: IxcProcessor, case: dict) -> None:
    messages = chat_format.from_query(case["query"], history=[(q, a) for q, a in case["history"]])
    places = sum(isinstance(part, chat_format.Image) for message in messages for part in message.content)
    batch = processor.encode(messages, images=[PICTURE] * places, system=case["meta_instruction"], hd=1)
    if case["kind"] == "chat_text_only":
        assert words(batch) == case["ids"]
        return
    assert chat_format.to_text(chat_format.render(messages, system=case["meta_instruction"])) == case["prompt"]
    assert words(batch) == [token for segment in case["segments"] for token in segment["ids"] or []]


def test_meta_instruction_is_the_originals() -> None:
    assert chat_format.META_INSTRUCTION in {case["meta_instruction"] for case in CHATS}


@pytest.mark.parametrize("case", BENCHMARKS, ids=lambda case: case["dataset"])
def test_chat_format_equals_vlmevalkit(processor: IxcProcessor, case: dict) -> None:
    """[BOS] + image + prompt without BOS; the question as content gives the ids of one raw string."""
    question = case["line"]["question"].split("Please answer")[0].rstrip()
    before, _, after = case["final_prompt"].partition(question)
    prompt = [
        Segment("image", image=chat_format.Image()),
        *_some(("markup", before), ("content", question), ("markup", after)),
    ]
    assert chat_format.to_text(prompt) == chat_format.IMAGE_PLACEHOLDER + case["final_prompt"]
    batch = processor.encode_segments([prompt], images=[PICTURE], hd=1, bos_once=True)
    assert words(batch) == case["bos_ids"] + case["prompt_ids"]


def _some(*pairs: tuple) -> list[Segment]:
    return [Segment(kind, text) for kind, text in pairs if text]
