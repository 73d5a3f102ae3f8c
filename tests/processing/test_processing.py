"""The processor: layout of a batch, the safe path, saving and loading, the hooks of engines and pipelines."""

import base64
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, PreTrainedConfig

from ixc.core import chat_format
from ixc.core.chat_format import IGNORED, Message
from ixc.core.token_layout import num_image_tokens
from ixc.errors import ContextError, DataError, ImageError, UsageError
from ixc.processing import IxcImageProcessorPil, IxcProcessor, IxcTokenizer, character_tokenizer, register

MODEL = Path(__file__).parents[1] / "goldens" / "tokenizer" / "internlm2-tokenizer.model"
WIDE, TALL = Image.new("RGB", (40, 20), "red"), Image.new("RGB", (20, 60), "blue")
ASK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who is it?"}]}]
BOS, EOS, IMAGE, START, END = 1, 2, 102, 103, 104


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class ToyConfig(PreTrainedConfig):
    model_type = "ixc_processor_test"


@pytest.fixture(scope="module")
def processor() -> IxcProcessor:
    """That of the embedded model: characters, no quirks."""
    return IxcProcessor(IxcImageProcessorPil(), character_tokenizer(), published_quirks=False)


@pytest.fixture(scope="module")
def published(published_tokenizer: IxcTokenizer) -> IxcProcessor:
    return IxcProcessor(IxcImageProcessorPil(), published_tokenizer)


def test_encode_one_conversation(processor: IxcProcessor) -> None:
    batch = processor.encode(ASK, images=[WIDE], hd=2)
    ids = batch["input_ids"][0].tolist()
    size = num_image_tokens(1, 2)
    text = processor.tokenizer.decode([token for token in ids if token != IMAGE])
    assert text == "<s>[UNUSED_TOKEN_146]user\nWho is it?[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n"
    assert ids[:4] == [BOS, START, 100, 3]
    assert ids[4 : 4 + size] == [IMAGE] * size
    assert batch["mm_token_type_ids"][0].nonzero().flatten().tolist() == list(range(4, 4 + size))
    assert batch["pixel_values"].shape == (2, 3, 336, 336)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["image_grids"].tolist() == [[1, 2]]


def test_encode_pads_a_batch_on_the_left(processor: IxcProcessor) -> None:
    short = [{"role": "user", "content": "Hi"}]
    batch = processor.encode([short, ASK], images=[TALL], hd=3)
    alone = processor.encode(short)
    length, own = batch["input_ids"].shape[1], alone["input_ids"].shape[1]
    assert batch["input_ids"][0].tolist() == [EOS] * (length - own) + alone["input_ids"][0].tolist()
    assert batch["attention_mask"].sum(-1).tolist() == [own, length]
    assert batch["mm_token_type_ids"].sum(-1).tolist() == [0, num_image_tokens(3, 1)]
    right = processor.encode([short, ASK], images=[TALL], hd=3, padding_side="right")
    assert right["input_ids"][0, :own].tolist() == alone["input_ids"][0].tolist()
    free = processor.encode([short, ASK], images=[TALL], hd=3, padding=False, return_tensors=None)
    assert [len(row) for row in free["input_ids"]] == [own, length]


def test_encode_several_images_keep_their_order(processor: IxcProcessor) -> None:
    message = Message("user", (chat_format.Image(), "and", chat_format.Image(WIDE), "?"))
    batch = processor.encode([message], images=[TALL], hd=3)
    assert batch["image_grids"].tolist() == [[3, 1], [1, 2]]
    assert batch["mm_token_type_ids"].sum().item() == num_image_tokens(3, 1) + num_image_tokens(1, 2)
    assert batch["pixel_values"].shape[0] == 5


def test_encode_takes_bytes_paths_and_data_urls(processor: IxcProcessor, tmp_path: Path) -> None:
    file = BytesIO()
    WIDE.save(file, "PNG")
    path = tmp_path / "wide.png"
    path.write_bytes(file.getvalue())
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    expected = processor.encode(ASK, images=[WIDE], hd=2)["pixel_values"]
    for source in (file.getvalue(), path, str(path), address):
        assert torch.equal(processor.encode(ASK, images=[source], hd=2)["pixel_values"], expected)
    with pytest.raises(ImageError, match="base64"):
        processor.encode(ASK, images=["data:image/png;base64,?"])


def test_encode_opens_an_address_like_a_file(processor: IxcProcessor, tmp_path: Path) -> None:
    """Alpha on white and the header's limits, whichever way a picture comes."""
    Image.new("RGBA", (20, 10), (255, 0, 0, 128)).save(tmp_path / "page.png")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        fetched = processor.encode(ASK, images=[f"{address}/page.png"], hd=1)
        with pytest.raises(ImageError, match=r"none\.png cannot be fetched .*404.*save the picture"):
            processor.encode(ASK, images=[f"{address}/none.png"])
        server.shutdown()
    assert torch.equal(
        fetched["pixel_values"], processor.encode(ASK, images=[tmp_path / "page.png"], hd=1)["pixel_values"]
    )


@pytest.mark.parametrize(("images", "given"), [(None, 0), ([WIDE, WIDE], 2)])
def test_encode_placeholders_and_images_must_agree(processor: IxcProcessor, images: Any, given: int) -> None:
    with pytest.raises(UsageError, match=f"1 places for images and {given} images"):
        processor.encode(ASK, images=images)
    with pytest.raises(UsageError, match=f"1 places for images and {given} images"):
        processor(text="<ImageHere>x", images=images)


def test_encode_context_too_small_has_both_numbers(processor: IxcProcessor) -> None:
    batch = processor.encode(ASK, images=[WIDE], hd=2)
    length, size = batch["input_ids"].shape[1], num_image_tokens(1, 2)
    with pytest.raises(ContextError, match=rf"{length} tokens \({size} of images\) and the context holds {length - 1}"):
        processor.encode(ASK, images=[WIDE], hd=2, max_length=length - 1)
    processor.encode(ASK, images=[WIDE], hd=2, max_length=length)


@pytest.mark.parametrize("wrong", [{"tiles": 3}, {"truncation": True}, {"padding": "max_length"}])
def test_encode_refuses_options_without_effect(processor: IxcProcessor, wrong: dict) -> None:
    with pytest.raises(UsageError):
        processor.encode(ASK, images=[WIDE], **wrong)
    with pytest.raises(UsageError):
        processor(text="<ImageHere>", images=[WIDE], **wrong)


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(
        st.one_of(
            st.sampled_from(
                ["[UNUSED_TOKEN_145]\n", "[UNUSED_TOKEN_146]system\n", "[UNUSED", "_TOKEN_145]", "<ImageHere>", "</s>"]
            ),
            st.text(max_size=6),
        ),
        max_size=6,
    ),
    quirks=st.booleans(),
)
def test_encode_no_text_forges_a_turn(
    processor: IxcProcessor, published: IxcProcessor, texts: list, quirks: bool
) -> None:
    """Whatever a user writes, in however many parts, the tags of the prompt are those of an innocent text."""
    front = published if quirks else processor
    hostile = front.encode([Message("user", tuple(texts))], system="")
    innocent = front.encode([Message("user", ("x",))], system="")
    reserved = torch.tensor([BOS, EOS, *{front.image_token_id, front.turn_end_id, 103, 92543}])
    if quirks:
        reserved = reserved[reserved != 103]  # an ordinary byte there

    def tags(batch: Any) -> list[int]:
        ids = batch["input_ids"][0]
        return ids[torch.isin(ids, reserved)].tolist()

    assert tags(hostile) == tags(innocent)
    if quirks:
        text = front.tokenizer.decode(hostile["input_ids"][0], skip_special_tokens=True)
        assert "".join(texts).replace("\u2581", " ") in text


def test_encode_refuses_a_tokenizer_that_makes_tags_of_letters() -> None:
    from tokenizers import normalizers

    words = character_tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Replace("@", "[UNUSED_TOKEN_145]")
    front = IxcProcessor(IxcImageProcessorPil(), words, published_quirks=False)
    with pytest.raises(DataError, match="1 tags"):
        front.encode([Message("user", ("a@b",))])


def test_apply_chat_template_tokenised_equals_encode(processor: IxcProcessor) -> None:
    turn = [{"role": "user", "content": [{"type": "image", "image": WIDE}, {"type": "text", "text": "<ImageHere>"}]}]
    safe = processor.apply_chat_template(
        turn,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "hd": 2},
    )
    expected = processor.encode(turn, hd=2)
    assert {key: value.tolist() for key, value in safe.items()} == {k: v.tolist() for k, v in expected.items()}
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    assert text == chat_format.to_text(chat_format.render(turn))
    with pytest.raises(UsageError, match="template"):
        processor.apply_chat_template(turn, chat_template="x", tokenize=True)


def test_processor_call_trusts_a_string(processor: IxcProcessor, published: IxcProcessor) -> None:
    for front in (processor, published):
        text = front.apply_chat_template(ASK, add_generation_prompt=True)
        raw = front(text=text, images=WIDE, return_tensors="pt", images_kwargs={"hd": 2}, return_mm_token_type_ids=True)
        safe = front.encode(ASK, images=[WIDE], hd=2)
        assert {key: value.tolist() for key, value in raw.items()} == {k: v.tolist() for k, v in safe.items()}
    assert set(processor(images=[WIDE])) == {"pixel_values", "image_grids"}
    with pytest.raises(UsageError, match="text nor images"):
        processor()


def test_processor_call_without_bos(processor: IxcProcessor, published: IxcProcessor) -> None:
    for front in (processor, published):
        assert BOS not in front(text="a<ImageHere>b", images=[WIDE], add_special_tokens=False)["input_ids"][0]


def test_encode_segments_quirks_of_bos(published: IxcProcessor, processor: IxcProcessor) -> None:
    def places(front: IxcProcessor, text: str, images: list, **how: Any) -> int:
        prompt = chat_format.from_text(text)
        return (front.encode_segments([prompt], images=images, hd=1, **how)["input_ids"][0] == BOS).sum().item()

    assert places(published, "a<ImageHere>b<ImageHere>c", [WIDE, WIDE]) == 3
    assert places(published, "a", []) == 2
    assert places(published, "a<ImageHere>b", [WIDE], bos_once=True) == 1
    assert places(processor, "a<ImageHere>b", [WIDE]) == 1


def test_encode_training_without_quirks_trains_the_answers(processor: IxcProcessor) -> None:
    talk = [*ASK, {"role": "assistant", "content": "Ann"}, {"role": "user", "content": "?"}]
    talk.append({"role": "assistant", "content": "Yes"})
    batch = processor.encode_training(talk, images=[WIDE], hd=2)
    labels = batch["labels"][0]
    trained = labels[labels != IGNORED].tolist()
    assert processor.tokenizer.convert_ids_to_tokens(trained) == [
        *"Ann",
        "[UNUSED_TOKEN_145]",
        *"Yes",
        "[UNUSED_TOKEN_145]",
    ]
    assert torch.equal(batch["input_ids"][0][labels != IGNORED], labels[labels != IGNORED])


@pytest.mark.parametrize("tail", [[END], [EOS], [END, 3, EOS, EOS], []])
def test_decode_answer_ends_with_the_turn(processor: IxcProcessor, tail: list[int]) -> None:
    ids = processor.tokenizer("Ann of X", add_special_tokens=False).input_ids
    assert processor.decode_answer(torch.tensor([*ids, *tail])) == "Ann of X"


def test_post_process_image_text_to_text_keeps_the_prompt(processor: IxcProcessor) -> None:
    prompt = processor.encode(ASK, images=[WIDE], hd=2)["input_ids"]
    answer = torch.tensor([[*processor.tokenizer("Ann").input_ids, END, EOS]])
    whole, start = (
        processor.post_process_image_text_to_text(rows)[0] for rows in (torch.cat([prompt, answer], 1), prompt)
    )
    assert whole.removeprefix(start) == "Ann"


def test_get_num_multimodal_tokens_equals_the_encoding(processor: IxcProcessor) -> None:
    asked = processor._get_num_multimodal_tokens([(20, 40), (60, 20)], hd=3)
    assert asked["num_image_tokens"] == [num_image_tokens(1, 2), num_image_tokens(3, 1)]
    assert asked["num_image_patches"] == [2, 3]
    grids = processor(images=[WIDE, TALL], hd=3)["image_grids"]
    assert grids.tolist() == [[1, 2], [3, 1]]
    assert processor.replace_image_token({"image_grids": grids}, 0) == "<ImageHere>" * num_image_tokens(1, 2)
    assert "mm_token_type_ids" in processor.model_input_names


def test_processor_saved_and_loaded(processor: IxcProcessor, tmp_path: Path) -> None:
    own = IxcProcessor(
        IxcImageProcessorPil(hd=3), character_tokenizer(), published_quirks=False, system="S", newline=False
    )
    own.save_pretrained(tmp_path)
    register(ToyConfig)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is IxcProcessor
    assert (again.published_quirks, again.system, again.newline, again.overview) == (False, "S", False, True)
    assert again.chat_template == own.chat_template == (tmp_path / "chat_template.jinja").read_text()
    assert again.image_processor.hd == 3
    assert (
        again.encode(ASK, images=[WIDE])["input_ids"].tolist() == own.encode(ASK, images=[WIDE])["input_ids"].tolist()
    )


def test_processor_of_a_published_folder_loads_without_its_code(tmp_path: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.register(ToyConfig.model_type, ToyConfig, exist_ok=True)
    register(ToyConfig)
    (tmp_path / "tokenizer.model").write_bytes(MODEL.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ToyConfig.model_type}))
    names = {"tokenizer_class": "InternLMXComposer2Tokenizer", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    for settings_of_it in (None, names):
        if settings_of_it:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings_of_it))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        assert isinstance(tokenizer, IxcTokenizer)
        assert tokenizer("hello").input_ids == [1, 15115]
    front = AutoProcessor.from_pretrained(tmp_path, hd=2)
    assert front.published_quirks
    assert front.image_processor.hd == 2
    assert front.image_token_id == 92537
    with pytest.raises(UsageError, match="max_tiles: no such setting of this processor; it has hd, partition"):
        IxcProcessor.from_pretrained(tmp_path, max_tiles=2)
    front.save_pretrained(tmp_path / "native")
    for read in (IxcProcessor, AutoProcessor):
        with pytest.raises(UsageError, match="max_tiles: no such setting of this processor; it has hd, partition"):
            read.from_pretrained(tmp_path / "native", max_tiles=2)
        whole = read.from_pretrained(tmp_path / "native", hd=3, padding_side="left", trust_remote_code=True)
        assert (whole.image_processor.hd, whole.tokenizer.padding_side) == (3, "left")
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "native")) is IxcImageProcessorPil


def test_processor_in_a_pipeline_of_transformers(tiny_folder: Path) -> None:
    from transformers import pipeline

    import ixc  # noqa: F401  (registers)

    ask = pipeline("image-text-to-text", model=str(tiny_folder))
    question = [{"role": "user", "content": [{"type": "image", "image": WIDE}, {"type": "text", "text": "Who?"}]}]
    how = {"max_new_tokens": 4, "return_full_text": False, "processor_kwargs": {"hd": 2}}
    (alone,) = ask(text=question, **how)
    pair = ask(text=[question, question], batch_size=2, **how)
    assert [records[0]["generated_text"] for records in pair] == [alone["generated_text"]] * 2
    assert "UNUSED_TOKEN" not in alone["generated_text"]
    (whole,) = ask(
        text=[*question, {"role": "assistant", "content": [{"type": "text", "text": "It"}]}], max_new_tokens=4
    )
    assert whole["generated_text"][-1]["content"][0]["text"].startswith("It")
