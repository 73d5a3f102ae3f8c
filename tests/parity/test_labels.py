"""Labels against the original's, spec (j): transformers 4.33 tokenisation, quirks on."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ixc.core import chat_format
from ixc.processing import IxcImageProcessorPil, IxcProcessor, IxcTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = json.loads((GOLDENS / "reference" / "label_masking.json").read_text())["cases"]
CONVERSATIONS = [case for case in CASES if case["kind"] == "conversation"]
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@pytest.fixture(scope="module")
def processor(published_tokenizer: IxcTokenizer) -> IxcProcessor:
    return IxcProcessor(IxcImageProcessorPil(), published_tokenizer)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])
def test_labels_of_given_ids(case: dict) -> None:
    assert chat_format.labels(case["ids"], published_quirks=True) == case["labels"]


@pytest.mark.parametrize("case", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_ids_and_labels_of_a_conversation(processor: IxcProcessor, case: dict) -> None:
    messages = [
        chat_format.Message(ROLES[turn["from"]], chat_format.from_query(turn["value"])[0].content)
        for turn in case["conversation"]
    ]
    places = sum(isinstance(part, chat_format.Image) for message in messages for part in message.content)
    batch = processor.encode_training(messages, images=[Image.new("RGB", (9, 9))] * places, hd=1)
    text = chat_format.to_text(chat_format.render_training(messages, published_quirks=True))
    assert text + "\n</s>" == case["text"]  # the original's tokenizer ate the newline
    assert _short(batch, batch["input_ids"][0].tolist(), case) == case["ids"]
    assert _short(batch, batch["labels"][0].tolist(), case) == case["labels"]


def _short(batch, values: list[int], case: dict) -> list[int]:
    """Each block of image positions as the golden's few placeholders."""
    found: list[int] = []
    kinds = batch["mm_token_type_ids"][0].tolist()
    for i, (value, kind) in enumerate(zip(values, kinds, strict=True)):
        if not kind:
            found.append(value)
        elif i == 0 or not kinds[i - 1]:
            found += [chat_format.IGNORED] * case["image_placeholder_len"]
    return found
