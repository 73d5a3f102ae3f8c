"""Small weights: as near as their steps allow, equal in every way they are computed, stored and loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from model_folder import foreign_files
from safetensors.torch import load_file, save_file

from ixc.errors import UsageError, WeightsError
from ixc.inference.engine import load
from ixc.inference.model_folder import EMBEDDED
from ixc.model import IxcForConditionalGeneration
from ixc.model.kernels import build, ops
from ixc.model.quantization.convert import quantize
from ixc.model.quantization.layers import QuantizedLinear, quantize_weight


def linear(bits: int, weight: torch.Tensor, group: int = 32) -> QuantizedLinear:
    made = QuantizedLinear(weight.shape[1], weight.shape[0], bits=bits, group_size=group)
    made.load_state_dict(quantize_weight(weight, bits=bits, group_size=group), assign=True)
    return made


@pytest.mark.parametrize("bits", [8, 4])
def test_quantize_weight_is_off_by_half_a_step_at_most(bits: int) -> None:
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1))
    found = linear(bits, weight)
    steps = found.scale.float().repeat_interleave(found.group_size, dim=1)
    # 0.6: bfloat16 keeps 8 bits of the scale, so the last of 15 (or 127) steps may fall short by a part of one
    assert ((found.dequantized() - weight).abs() / steps).max() < (0.6 if bits == 4 else 1.0)


def rounded(x: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Activations as the kernels round them: 16 bits a row for weights of 8, 8 bits a group for weights of 4."""
    steps = 32767 if bits == 8 else 127
    blocks = x.unflatten(-1, (-1, x.shape[-1] if bits == 8 else group))
    most = blocks.abs().amax(-1, keepdim=True)
    return ((blocks * (steps / most)).round().double() * most.double() / steps).flatten(-2)


@pytest.mark.skipif(ops.library() is None, reason="no C compiler")
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_linear_multiplies_what_is_stored(bits: int, group: int) -> None:
    draw = torch.Generator().manual_seed(2)
    found = linear(bits, torch.randn(150, 384, generator=draw), group)  # more rows than two strips
    for rows in (1, 2, 3, 4, 9):
        x = torch.randn(1, rows, 384, generator=draw)
        expected = F.linear(rounded(x, bits, group), found.dequantized(torch.float64))
        # A number half-way between two steps may go to either: a step of 16 bits (1e-4) times the largest weight (5)
        torch.testing.assert_close(found(x).double(), expected, atol=5e-4, rtol=0)


@pytest.mark.skipif(ops.library() is None, reason="no C compiler")
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_linear_sum_does_not_overflow(bits: int) -> None:
    weight = torch.ones(2, 8192) * torch.tensor([[1.0], [-1.0]])
    weight[:, ::128] = 0.0  # so that a group of 4 bits has two ends, and nearly all weights the upper or the lower one
    found = linear(bits, weight, 128)
    for x in (torch.ones(1, 8192), -torch.ones(1, 8192)):
        expected = F.linear(x.double(), found.dequantized(torch.float64))
        torch.testing.assert_close(found(x).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(ops.library() is None, reason="no C compiler")
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_linear_without_avx2_is_the_same(bits: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    found, x = linear(bits, torch.randn(70, 256, generator=draw)), torch.randn(7, 256, generator=draw)
    expected = found(x)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", tuple(flag for flag in build.FLAGS if flag != "-march=native"))
    portable = ops.library.__wrapped__()
    monkeypatch.setattr(ops, "library", lambda: portable)
    assert list((tmp_path / "ixc").glob("*.so"))
    torch.testing.assert_close(found(x), expected, atol=5e-4, rtol=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(EMBEDDED, tmp_path_factory.mktemp("small") / "int4", bits=4)


def test_load_quantized_folder_and_save_it_again(small: Path, tmp_path: Path) -> None:
    assert foreign_files(small) == set()
    engine = load(small, device="cpu")
    assert engine.model.model.language_model.layers[0].attention.wo.base.bits == 4
    assert engine.model.output.bits == 4
    assert not any(parameter.requires_grad for parameter in engine.model.parameters())
    engine.model.save_pretrained(tmp_path / "again")
    again = IxcForConditionalGeneration.from_pretrained(tmp_path / "again")
    state = again.state_dict()
    for name, value in engine.model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_quantize_refuses_quantized_weights(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 bits already"):
        quantize(small, tmp_path / "x", bits=8)
    with pytest.raises(UsageError, match="8 or 4"):
        quantize(EMBEDDED, tmp_path / "x", bits=5)
    assert not list(tmp_path.iterdir())


def test_load_broken_quantized_folder_is_one_line(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small, folder)
    weights = load_file(folder / "model.safetensors")
    key = "model.layers.0.attention.wqkv.base.q4"
    save_file({name: value for name, value in weights.items() if name != key}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing .*wqkv\.base\.q4"):
        load(folder, device="cpu")
    save_file({**weights, key: weights[key].to(torch.int16)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="int16"):
        load(folder, device="cpu")
    config = json.loads((folder / "config.json").read_text())
    for wrong, words in (
        ({"quant_method": "gptq"}, "gptq"),
        ({"quant_method": "ixc", "version": 2, "bits": 3}, "bits is 3"),
        ({"quant_method": "ixc", "bits": 4}, "version 1"),
    ):
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": wrong}))
        with pytest.raises(WeightsError, match=words):
            load(folder, device="cpu")
