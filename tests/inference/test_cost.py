"""The plan's arithmetic against the published counts, and its picture."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ixc.errors import GeometryError, UsageError
from ixc.inference.cost import DTYPES, ModelGeometry, plan, read_geometry, text
from ixc.inference.tiling_figure import draw

GOLDENS = Path(__file__).parents[1] / "goldens" / "reference"


def test_plan_weights_are_those_of_the_published_file() -> None:
    published = json.loads((GOLDENS / "checkpoint_keys.json").read_text(encoding="utf-8"))
    parts, ours = published["num_params_by_group"], ModelGeometry().weights()
    assert ours == {
        "vision tower": parts["vit"],
        "projector": parts["vision_proj"],
        "newline and separator": parts["gn_embeddings"],
        "decoder": parts["llm_layers_and_norm"],
        "PLoRA": parts["plora"],
        "embeddings": parts["tok_embeddings"],
        "head": parts["output"],
    }
    assert sum(ours.values()) == published["num_params_published"]
    assert plan(336, 336).weight_bytes("bfloat16") == published["bytes_at_16bit"]


def test_plan_uhd_at_hd_55() -> None:
    """Spec (a): 3840 x 2160 -> 6 x 9 tiles, 8,005 tokens."""
    uhd = plan(3840, 2160, hd=55)
    assert (uhd.partition.grid_h, uhd.partition.grid_w, uhd.image_tokens) == (6, 9, 8005)
    assert uhd.views == 55
    # 2 (keys, values) * 32 layers * 8 heads * 128 channels * 8005 tokens * 2 bytes
    assert uhd.kv_bytes == 2 * 32 * 8 * 128 * 8005 * 2
    assert uhd.eager_scores_bytes == 32 * 8005**2 * 4
    assert uhd.fits


def test_plan_flops_equal_another_count() -> None:
    """2 FLOP for every weight and token, the rule of thumb of the paper's notes, plus attention."""
    uhd = plan(3840, 2160, hd=55)
    flops, model = uhd.flops(), uhd.model
    matrices = model.weights()["decoder"] - (2 * model.layers + 1) * model.width
    assert flops["decoder"] == 2 * uhd.tokens * matrices
    assert flops["PLoRA"] == 2 * uhd.image_tokens * model.weights()["PLoRA"]
    assert flops["attention"] == 2 * 32 * 8005**2 * 4096
    # One pass of ViT-L/14-336 over one tile is 0.38 TFLOP (2 * 0.19 TMAC, CLIP's own figure).
    assert flops["vision tower"] / uhd.views == pytest.approx(0.38e12, rel=0.05)


def test_plan_cost_and_gain_of_merging_plora() -> None:
    uhd, published = plan(3840, 2160, hd=55), json.loads((GOLDENS / "checkpoint_keys.json").read_text(encoding="utf-8"))
    norms = (2 * 32 + 1) * 4096
    assert uhd.merged_bytes == 2 * (published["num_params_by_group"]["llm_layers_and_norm"] - norms)
    assert uhd.merged_saving == uhd.flops()["PLoRA"] / sum(uhd.flops().values())
    assert "plora=merged  13.96 GB more of weights, 8.37 TFLOP of the prefill less (5.3%)" in text(uhd)
    assert "plora=merged  not with int4 weights" in text(plan(336, 336, dtype="int4"))


def test_plan_text_tokens_have_no_plora_flops() -> None:
    alone, asked = plan(336, 336, hd=1), plan(336, 336, hd=1, text_tokens=100)
    assert asked.tokens == alone.tokens + 100
    assert asked.flops()["PLoRA"] == alone.flops()["PLoRA"]
    assert asked.flops()["decoder"] > alone.flops()["decoder"]


def test_plan_weight_bytes_of_dtypes_are_in_order() -> None:
    one = plan(336, 336)
    sizes = [one.weight_bytes(dtype) for dtype in ("int4", "int8", "float16", "float32")]
    assert sizes == sorted(sizes)
    assert sizes[3] == 2 * sizes[2]
    assert set(DTYPES) >= {"int4", "int8", "float16", "bfloat16", "float32"}


def test_plan_names_more_tokens_than_positions() -> None:
    small = plan(3840, 2160, hd=55, geometry=ModelGeometry(max_positions=4096))
    assert not small.fits
    assert any("8,005 of 4,096 positions: does not fit, lower hd" in line for line in text(small))


def test_text_has_the_numbers() -> None:
    lines = "\n".join(text(plan(3840, 2160, hd=55)))
    for words in ("3,024 x 1,701 px", "6 rows x 9 columns = 54", "8,005", "17.19 GB in bfloat16", "1.05 GB a beam"):
        assert words in lines


def test_read_geometry_of_a_flat_folder() -> None:
    model = read_geometry(GOLDENS / "checkpoint")
    assert (model.layers, model.width, model.heads, model.kv_heads, model.head_dim) == (2, 128, 4, 2, 32)
    assert (model.vit_width, model.plora_r, model.plora_qkv_r, model.side) == (64, 8, 4, 12)


def test_read_geometry_of_a_nested_folder(tmp_path: Path) -> None:
    config = {
        "text_config": {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3},
        "vision_config": {"image_size": 112, "hidden_size": 32},
        "newline": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = read_geometry(tmp_path)
    assert (model.width, model.kv_heads, model.head_dim, model.layers, model.side) == (64, 2, 32, 3, 4)
    small = plan(224, 112, hd=2, geometry=model)
    assert (small.partition.tiles, small.layout.num_tokens) == (2, 4 * 4 + 1 + 4 * 8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no file"),
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ('{"hidden_size": -4}', "hidden_size = -4"),
        ('{"hidden_size": "4"}', "hidden_size = '4'"),
    ],
)
def test_read_geometry_refuses_bad_folders(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_geometry(tmp_path)


def test_plan_refuses_bad_arguments() -> None:
    with pytest.raises(UsageError, match=r"'int3'.*bfloat16"):
        plan(9, 9, dtype="int3")
    with pytest.raises(UsageError, match="text_tokens is -1"):
        plan(9, 9, text_tokens=-1)
    with pytest.raises(GeometryError, match="got 0"):
        plan(9, 9, hd=0)


def test_cost_imports_no_torch() -> None:
    code = (
        "import sys, ixc.inference.cost, ixc.inference.tiling_figure\n"
        "print(*({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(("width", "height", "rule"), [(1, 1, "native"), (700, 300, "original"), (40, 9000, "fit")])
def test_draw(width: int, height: int, rule: str) -> None:
    file = io.BytesIO()
    draw(Image.new("RGB", (width, height), "red"), plan=plan(width, height, hd=25, rule=rule), out=file)
    sheet = Image.open(file)
    assert sheet.format == "PNG"
    colours = {colour for _, colour in sheet.getcolors(maxcolors=1 << 24)}
    assert {(230, 97, 0), (26, 95, 180), (38, 140, 80), (255, 255, 255)} <= colours


def test_draw_refusals(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"9 x 8 px.*8 x 9"):
        draw(Image.new("RGB", (9, 8)), plan=plan(8, 9), out=io.BytesIO())
    with pytest.raises(UsageError, match="cannot be written"):
        draw(Image.new("RGB", (9, 8)), plan=plan(9, 8), out=tmp_path / "no" / "plan.png")
