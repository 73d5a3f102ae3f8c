"""`generate`: batches, beams, streams and caches give what single greedy runs give; the prompt is read once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from parity.model_goldens import FOLDER, IMAGE_ID, INFERENCE, assert_close, inputs
from transformers.generation.streamers import BaseStreamer

from ixc.errors import UsageError
from ixc.model.generation import images_of_rows
from ixc.model.kernels import many_queries
from ixc.model.loading import load
from ixc.model.modeling import IxcForConditionalGeneration

NAMES = ["land_1x2", "text_only", "multi_image", "square_1x1"]
NEW = 8
PAD = 2


@pytest.fixture(scope="module")
def model() -> IxcForConditionalGeneration:
    model = load(FOLDER).eval()
    model.generation_config.eos_token_id = None
    return model


def left_padded(names: list[str]) -> dict[str, torch.Tensor]:
    """Several conversations as one batch, pixels of all images one behind the other."""
    singles = [inputs(INFERENCE[name]) for name in names]
    longest = max(single["input_ids"].shape[1] for single in singles)

    def pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
        return torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0), value=value) for row in rows])

    batch = {
        "input_ids": pad([single["input_ids"] for single in singles], PAD),
        "mm_token_type_ids": pad([single["mm_token_type_ids"] for single in singles], 0),
        "attention_mask": pad([torch.ones_like(single["input_ids"]) for single in singles], 0),
    }
    for key in ("pixel_values", "image_grids"):
        found = [single[key] for single in singles if key in single]
        if found:
            batch[key] = torch.cat(found)
    return batch


def generated(model: IxcForConditionalGeneration, batch: dict[str, torch.Tensor], **kwargs: Any) -> list[list[int]]:
    ids = model.generate(**batch, **{"max_new_tokens": NEW, "do_sample": False, **kwargs})
    return ids[:, batch["input_ids"].shape[1] :].tolist()


@contextmanager
def counted(model: IxcForConditionalGeneration) -> Iterator[dict[str, int]]:
    """How many tokens pass through the reader, and pictures through the tower, inside."""
    counts = {"tokens": 0, "pictures": 0}

    def tokens(module: Any, args: Any, output: Any) -> None:
        counts["tokens"] += output.shape[0] * output.shape[1]

    def pictures(module: Any, args: Any, output: Any) -> None:
        counts["pictures"] += output.shape[0]

    hooks = [
        model.model.language_model.norm.register_forward_hook(tokens),
        model.model.vision_tower.register_forward_hook(pictures),
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def test_generation_of_a_batch_equals_single_runs(model: IxcForConditionalGeneration) -> None:
    found = generated(model, left_padded(NAMES))
    assert found == [INFERENCE[name]["greedy_tokens"][:NEW] for name in NAMES]


def test_generation_beams_share_one_prefill(model: IxcForConditionalGeneration) -> None:
    case = INFERENCE["multi_image"]
    prompt, wanted = case["seq_len"], case["beam3_tokens"]
    with counted(model) as counts:  # the whole answer: a shorter search need not find its beginning
        found = generated(model, inputs(case), num_beams=3, max_new_tokens=len(wanted))
    assert found == [wanted]
    assert counts["pictures"] == 2 * 2  # two images of one tile, each with its overview
    assert counts["tokens"] <= prompt + 3 * (len(wanted) - 1)


def test_generation_beams_of_a_batch_equal_beams_alone(model: IxcForConditionalGeneration) -> None:
    batch = left_padded(NAMES)
    with counted(model) as counts:
        together = generated(model, batch, num_beams=3)
    assert counts["tokens"] <= batch["input_ids"].numel() + len(NAMES) * 3 * (NEW - 1)
    for name, row in zip(NAMES, together, strict=True):
        assert [row] == generated(model, inputs(INFERENCE[name]), num_beams=3)


def test_generation_returned_sequences_share_one_prefill(model: IxcForConditionalGeneration) -> None:
    with counted(model) as counts:
        torch.manual_seed(0)
        found = generated(model, inputs(INFERENCE["land_1x2"]), do_sample=True, num_return_sequences=4)
    assert len(found) == 4
    assert len({tuple(row) for row in found}) > 1
    assert counts["tokens"] == INFERENCE["land_1x2"]["seq_len"] + 4 * (NEW - 1)
    assert counts["pictures"] == 3


@pytest.mark.parametrize("kwargs", [{"cache_implementation": "static"}, {"use_cache": False}], ids=["static", "none"])
@pytest.mark.parametrize("beams", [1, 2])
def test_generation_with_other_caches(model: IxcForConditionalGeneration, kwargs: dict[str, Any], beams: int) -> None:
    # Beams on these caches read each copy of the prompt, and every copy must find its own images.
    batch = left_padded(["square_1x1", "text_only_plain"])
    short = {"max_new_tokens": 4, "num_beams": beams, "disable_compile": True}
    assert generated(model, batch, **short, **kwargs) == generated(model, batch, **short)


class Collector(BaseStreamer):
    """Keeps what is streamed."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.flatten().tolist())

    def end(self) -> None:
        pass


def test_generation_with_a_streamer_is_the_same(model: IxcForConditionalGeneration) -> None:
    streamer = Collector()
    generated(model, inputs(INFERENCE["land_1x2"]), streamer=streamer)
    assert [token for piece in streamer.pieces[1:] for token in piece] == INFERENCE["land_1x2"]["greedy_tokens"][:NEW]


def test_generation_never_produces_the_placeholder() -> None:
    model = load(FOLDER).eval()
    given = inputs(INFERENCE["text_only"])
    likely = generated(model, given, max_new_tokens=1)[0][0]
    model.config.image_token_id = likely
    assert generated(model, given, max_new_tokens=1)[0][0] != likely
    assert generated(model, given, max_new_tokens=4, num_beams=2)[0].count(likely) == 0


def test_generation_uses_no_plora_for_generated_tokens(model: IxcForConditionalGeneration) -> None:
    layer = model.model.language_model.layers[0].feed_forward.w1.Plora_A
    seen: list[int] = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    generated(model, inputs(INFERENCE["square_1x1"]))
    hook.remove()
    assert seen == [INFERENCE["square_1x1"]["images"][0]["num_tokens"]]  # and the words of the prompt neither


def test_modeling_embeddings_instead_of_ids(model: IxcForConditionalGeneration) -> None:
    given = inputs(INFERENCE["square_1x1"])
    with torch.no_grad():
        rows = model.get_image_features(given["pixel_values"], given["image_grids"]).pooler_output[0]
        embeds = model.get_input_embeddings()(given["input_ids"])
        embeds[given["mm_token_type_ids"] == 1] = rows
        wanted = model(**given).logits
        found = model(inputs_embeds=embeds, mm_token_type_ids=given["mm_token_type_ids"]).logits
        assert torch.equal(found, wanted)
        with pytest.raises(UsageError, match="mm_token_type_ids"):
            model(inputs_embeds=embeds)
        off = model(inputs_embeds=embeds, mm_token_type_ids=torch.zeros_like(given["mm_token_type_ids"])).logits
    assert not torch.allclose(off, wanted)
    ids = model.generate(
        inputs_embeds=embeds, mm_token_type_ids=given["mm_token_type_ids"], max_new_tokens=NEW, do_sample=False
    )
    assert ids[0].tolist() == INFERENCE["square_1x1"]["greedy_tokens"][:NEW]


def test_modeling_image_mask_from_the_placeholder(model: IxcForConditionalGeneration) -> None:
    given = inputs(INFERENCE["square_1x1"])
    with torch.no_grad():
        wanted = model(**given).logits
        assert (given.pop("mm_token_type_ids") == (given["input_ids"] == IMAGE_ID)).all()
        assert torch.equal(model(**given).logits, wanted)


def test_generation_with_image_features_made_before(model: IxcForConditionalGeneration) -> None:
    given = inputs(INFERENCE["multi_image"])
    features = model.get_image_features(given.pop("pixel_values"), given.pop("image_grids"))
    assert (
        generated(model, {**given, "mm_encoder_outputs": {"image": features}})[0]
        == (INFERENCE["multi_image"]["greedy_tokens"][:NEW])
    )


OLD = tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (5, 20)


@pytest.mark.skipif(OLD, reason="needs transformers 5.20")
def test_generation_chunked_prefill(model: IxcForConditionalGeneration) -> None:
    found = generated(model, inputs(INFERENCE["multi_image"]), prefill_chunk_size=100)
    assert found[0] == INFERENCE["multi_image"]["greedy_tokens"][:NEW]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_attention_kernels_agree(model: IxcForConditionalGeneration, kernel: str) -> None:
    other = load(FOLDER, attn_implementation=kernel).eval()
    assert other.model.vision_tower.config._attn_implementation == kernel
    batch = left_padded(["square_1x1", "text_only_plain"])
    with torch.no_grad():
        assert_close(other(**batch).logits[:, -4:], model(**batch).logits[:, -4:], tolerance=1e-5)


def test_attention_prefill_makes_no_square_matrix(
    model: IxcForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Any] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        masks.append((kwargs.get("attn_mask"), kwargs.get("is_causal")))
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    monkeypatch.setattr(many_queries, "usable", lambda *given: False)  # torch's own kernel is what is watched
    generated(model, inputs(INFERENCE["land_1x2"]), max_new_tokens=2)
    assert {mask for mask, _ in masks} == {None}
    assert (None, True) in masks


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_grids": torch.tensor([[1, 1]])}, "ask for 1 tiles but pixel_values holds 2"),
        ({"pixel_values": None}, "457 image tokens but no images came"),
        ({"image_grids": None}, "without image_grids"),
        ({"pixel_values": torch.zeros(2, 3, 224, 224, dtype=torch.uint8)}, r"takes \(3, 336, 336\)"),
        ({"mm_token_type_ids": torch.zeros(1, 470)}, r"is \(1, 470\) but the tokens are \(1, 473\)"),
        ({"mm_token_type_ids": torch.zeros(1, 473)}, "0 image tokens but the images give 457"),
        ({"inputs_embeds": torch.zeros(1, 473, 128)}, "either input_ids or inputs_embeds"),
    ],
)
def test_modeling_wrong_calls(model: IxcForConditionalGeneration, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        model(**{**inputs(INFERENCE["land_1x2"]), **change})


def test_images_of_rows() -> None:
    a, b, c = torch.zeros(3, 1), torch.zeros(2, 1), torch.zeros(4, 1)
    found = images_of_rows([5, 0, 4], [a, b, c])
    assert [[len(image) for image in group] for group in found] == [[3, 2], [], [4]]
    with pytest.raises(UsageError, match="row 0 has 4"):
        images_of_rows([4, 5], [a, b, c])
    with pytest.raises(UsageError, match="1 of 3 images"):
        images_of_rows([5], [a, b, c])
