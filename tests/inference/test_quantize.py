"""Small weights: as near as their steps allow, equal in every way they are computed, stored and loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ixc.errors import UsageError, WeightsError
from ixc.inference.engine import load
from ixc.inference.folder import EMBEDDED
from ixc.inference.quantize import quantize
from ixc.model import IxcForConditionalGeneration, kernels
from ixc.model.quantised import QuantisedLinear, quantised


def linear(bits: int, weight: torch.Tensor, group: int = 32) -> QuantisedLinear:
    made = QuantisedLinear(weight.shape[1], weight.shape[0], bits=bits, group_size=group)
    made.load_state_dict(quantised(weight, bits=bits, group_size=group), assign=True)
    return made


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_off_by_half_a_step_at_most(bits: int) -> None:
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1))
    found = linear(bits, weight)
    steps = found.scale.float().repeat_interleave(found.group_size, dim=1)
    # 0.6: bfloat16 keeps 8 bits of the scale, so the last of 15 (or 127) steps may fall short by a part of one
    assert ((found.unpacked() - weight).abs() / steps).max() < (0.6 if bits == 4 else 1.0)


@pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 3, 4, 7, 33])
def test_kernels_and_strips_compute_what_torch_computes(bits: int, rows: int) -> None:
    draw = torch.Generator().manual_seed(2)
    found = linear(bits, torch.randn(1100, 64, generator=draw))  # more rows than one strip
    x = torch.randn(1, rows, 64, generator=draw)
    expected = F.linear(x.double(), found.unpacked(torch.float64))
    torch.testing.assert_close(found(x).double(), expected, atol=2e-5, rtol=0)  # sums of 64 float32 products


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(EMBEDDED, tmp_path_factory.mktemp("small") / "int4", bits=4)


def test_a_small_folder_loads_like_any_other_and_round_trips(small: Path, tmp_path: Path) -> None:
    engine = load(small, device="cpu")
    assert engine.model.model.language_model.layers[0].attention.wo.base.bits == 4
    assert engine.model.output.bits == 8
    assert not any(parameter.requires_grad for parameter in engine.model.parameters())
    engine.model.save_pretrained(tmp_path / "again")
    again = IxcForConditionalGeneration.from_pretrained(tmp_path / "again")
    state = again.state_dict()
    for name, value in engine.model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_small_weights_are_not_quantised_again(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 bits already"):
        quantize(small, tmp_path / "x", bits=8)
    with pytest.raises(UsageError, match="8 or 4"):
        quantize(EMBEDDED, tmp_path / "x", bits=5)
    assert not list(tmp_path.iterdir())


def test_broken_and_foreign_folders_get_one_line(small: Path, tmp_path: Path) -> None:
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
    for wrong, words in (({"quant_method": "gptq"}, "gptq"), ({"quant_method": "ixc", "bits": 3}, "bits is 3")):
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": wrong}))
        with pytest.raises(WeightsError, match=words):
            load(folder, device="cpu")
