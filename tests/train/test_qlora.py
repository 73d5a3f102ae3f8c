"""QLoRA as far as a CPU goes: which maps are quantised, how near nf4 is, that an adapter learns beside it."""

from __future__ import annotations

import sys

import pytest
import torch

from ixc.errors import MissingPackageError, UsageError
from ixc.inference.model_folder import EMBEDDED
from ixc.model.loading import load
from ixc.train import qlora
from ixc.train.config import Adapter
from ixc.train.param_groups import add_adapter

FOUR = Adapter(r=4, alpha=4, dropout=0.0, weight_bits=4)


def test_check_qlora_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        MissingPackageError, match=r"need the package bitsandbytes; install it: .*qlora.*, or take recipes/lora"
    ):
        qlora.check_qlora(FOUR, device=torch.device("cuda"))
    qlora.check_qlora(Adapter(r=4, alpha=4, dropout=0.0), device=torch.device("cpu"), world_size=8)


def test_check_qlora_on_cpu_and_on_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", object())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"need a GPU, this is cpu .*take recipes/lora\.py"):
        qlora.check_qlora(FOUR, device=torch.device("cpu"))
    with pytest.raises(UsageError, match="not sharded over 2 devices"):
        qlora.check_qlora(FOUR, device=torch.device("cuda"), world_size=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_quantize_targets_then_adapter_gets_gradients() -> None:
    pytest.importorskip("bitsandbytes", reason="not installed: pip install -c constraints.txt -e '.[qlora]'")
    whole, model = load(EMBEDDED, dtype=torch.bfloat16), load(EMBEDDED, dtype=torch.bfloat16)
    names = qlora.quantize_targets(model, FOUR.target_modules)
    text = model.config.text_config
    assert len(names) == 5 * text.num_hidden_layers  # wqkv, wo, w1, w2, w3
    model.to("cpu")
    weight = model.get_submodule(names[0]).weight
    assert (weight.dtype, weight.numel()) == (torch.uint8, whole.get_submodule(names[0]).weight.numel() // 2)
    x = torch.randn(8, text.hidden_size, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact, near = whole.get_submodule(names[0])(x).float(), model.get_submodule(names[0])(x).float()
    # Weights near to normal lose about 9 % of their norm in nf4 (arXiv 2305.14314).
    assert 0.01 < (exact - near).norm() / exact.norm() < 0.15
    tuned = add_adapter(model, FOUR)
    ids = torch.tensor([[1, 50, 51, 52]])
    tuned(input_ids=ids, labels=ids).loss.backward()
    grads = {n for n, p in tuned.named_parameters() if p.grad is not None}
    assert grads
    assert all("lora_" in name for name in grads)
