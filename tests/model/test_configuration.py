"""Configurations: the flat published form, what is refused, and the switches of the paper's ablations."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.model_goldens import FOLDER

from ixc.core.token_layout import num_image_tokens
from ixc.errors import UsageError, WeightsError
from ixc.model.configuration import MERGES, VISION_ACTIVATIONS, IxcConfig, IxcTextConfig, IxcVisionConfig
from ixc.model.image_features import overview
from ixc.model.loading import read_config
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.projector_merge import MERGE
from ixc.model.vision import ACTIVATIONS

TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "plora_r": 2,
    "plora_qkv_r": 2,
}
VISION = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
ID = 7


def tiny(**kwargs: Any) -> IxcForConditionalGeneration:
    return IxcForConditionalGeneration(
        IxcConfig(text_config=TEXT, vision_config={**VISION, **kwargs.pop("vision", {})}, image_token_id=ID, **kwargs)
    ).eval()


def test_ixc_config_flat_form() -> None:
    config = IxcConfig.from_pretrained(FOLDER)
    assert (config.model_type, config.image_token_id) == ("ixc", 505)
    assert config.text_config.rope_parameters == {"rope_type": "dynamic", "rope_theta": 1_000_000.0, "factor": 1.0}
    assert config.text_config.plora_qkv_r == 4
    assert config.text_config.eos_token_id == [2, 510]
    assert config.vision_config.hidden_size == 64


def test_ixc_config_flat_form_without_vision_is_the_published_model() -> None:
    flat = json.loads((FOLDER / "config.json").read_text())
    config = IxcConfig.from_dict({**flat, "vision_config": None, "vocab_size": 92544, "im_end_id": None})
    assert config.vision_config.to_dict() == IxcVisionConfig().to_dict()
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (1024, 24)
    assert config.image_token_id == 92537
    assert config.text_config.eos_token_id == [2, 92542]


def test_ixc_config_nested_form_round_trip(tmp_path: Any) -> None:
    config = IxcConfig(text_config=TEXT, vision_config=VISION, merge="resampler", newline=False, overview=False)
    config.save_pretrained(tmp_path)
    assert IxcConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"merge": "mean"}, "merge is 'mean'; it must be one of concat, c_abstractor, resampler"),
        ({"text_config": [1]}, "text_config is a list, an object with fields needed"),
        ({"vision_config": "clip"}, "vision_config is a str"),
        ({"text_config": {**TEXT, "rope_scaling": {"type": "yarn", "factor": 2.0}}}, "rope_type is 'yarn'"),
        ({"text_config": {**TEXT, "rope_scaling": {"type": "dynamic"}}}, "factor of the rotary embedding is None"),
        ({"text_config": {**TEXT, "rope_theta": "1e4"}}, "rope_theta of the rotary embedding is '1e4'"),
        ({"text_config": {**TEXT, "hidden_act": "gelu"}}, "hidden_act of the decoder is 'gelu'; .*silu"),
        ({"text_config": {**TEXT, "tie_word_embeddings": True}}, "tie_word_embeddings is True"),
        ({"text_config": {**TEXT, "num_attention_heads": 0}}, "num_attention_heads is 0, at least 1 needed"),
        ({"text_config": {**TEXT, "num_key_value_heads": 3}}, "heads is 2, a multiple of num_key_value_heads = 3"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({**TEXT, "bias": True}, "bias is True"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act of the vision tower is 'relu'; .*quick_gelu, gelu"),
        ({"vision_config": {"image_size": 335}}, "image_size is 335, a multiple of patch_size = 14"),
        ({"vision_config": {"num_channels": 1}}, "num_channels is 1"),
    ],
)
def test_ixc_config_refusals(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        IxcConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"hidden_size": "abc"}, "'hidden_size' expected int, got str"),
        ({"text_config": {"hidden_size": 8.5}}, "'hidden_size' expected int, got float"),
        ({"text_config": [1]}, "text_config is a list"),
        ({"newline": "no"}, "'newline' expected bool, got str"),
        ({"vision_config": {"num_hidden_layers": None}}, "'num_hidden_layers' expected int, got NoneType"),
        ({"vocab_size": "abc"}, "'vocab_size' expected int"),
        ({"merge": "mean"}, "merge is 'mean'"),
        ({"dtype": "float99"}, "float99"),
    ],
)
def test_read_config_wrong_value_is_one_line(tmp_path: Path, fields: dict[str, Any], complaint: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match=rf"config\.json describes no model of ours .*{complaint}") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_ixc_config_takes_whole_numbers_and_missing_stop_tokens() -> None:
    given = {**TEXT, "plora_alpha": 8, "plora_dropout": 0, "rms_norm_eps": 1, "eos_token_id": None}
    assert IxcTextConfig(**given, rope_parameters={"rope_type": "default", "rope_theta": 1e4}).eos_token_id is None
    assert IxcConfig(**given).text_config.eos_token_id == [38]


def test_activations_are_those_of_the_configuration() -> None:
    assert tuple(ACTIVATIONS) == VISION_ACTIVATIONS


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("newline", [True, False])
@pytest.mark.parametrize("with_overview", [True, False])
@torch.no_grad()
def test_get_image_features_has_the_lengths_of_the_layout(merge: str, newline: bool, with_overview: bool) -> None:
    model = tiny(merge=merge, newline=newline, overview=with_overview)
    tiles, grids = torch.randint(0, 256, (3, 3, 336, 336), dtype=torch.uint8), torch.tensor([[1, 2], [1, 1]])
    rows = model.get_image_features(tiles, grids).pooler_output
    wanted = [num_image_tokens(h, w, newline=newline, overview=with_overview) for h, w in grids.tolist()]
    assert [len(image) for image in rows] == wanted
    ids = torch.full((1, sum(wanted) + 1), ID)
    ids[0, -1] = 1
    assert model(input_ids=ids, pixel_values=tiles, image_grids=grids, logits_to_keep=1).logits.shape == (1, 1, 40)


@torch.no_grad()
def test_get_image_features_tile_size_of_the_configuration() -> None:
    model = tiny(vision={"image_size": 112})
    rows = model.get_image_features(torch.zeros(2, 3, 112, 112), torch.tensor([[2, 1]])).pooler_output
    assert len(rows[0]) == num_image_tokens(2, 1, side=4)


@torch.no_grad()
def test_encode_tiles_in_several_passes_changes_nothing() -> None:
    model, tiles = tiny(), torch.randint(0, 256, (4, 3, 336, 336), dtype=torch.uint8)
    grids = torch.tensor([[2, 2]])
    wanted = model.get_image_features(tiles, grids).pooler_output[0]
    found = model.get_image_features(tiles, grids, tiles_per_pass=2).pooler_output[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_projector_merge_concat_order_is_row_by_row() -> None:
    merge = MERGE["concat"](IxcVisionConfig(**VISION))
    patches = torch.arange(576.0).view(1, 576, 1).expand(1, 576, 8)
    merged = merge(patches).view(144, 4, 8)
    assert merged[0, :, 0].tolist() == [0, 1, 24, 25]
    assert merged[13, :, 0].tolist() == [50, 51, 74, 75]  # row 1, column 1


def test_overview_of_one_tile_is_the_tile() -> None:
    tile = torch.randn(1, 3, 336, 336)
    assert torch.equal(overview(tile, (1, 1)), tile)
