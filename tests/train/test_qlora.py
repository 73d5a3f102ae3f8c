"""QLoRA as far as a CPU goes: which maps are quantised, how near nf4 is, that an adapter learns beside it."""

from __future__ import annotations

import sys

import pytest
import torch

from ixc.errors import UsageError
from ixc.inference.model_folder import EMBEDDED
from ixc.model.loading import load
from ixc.train import qlora
from ixc.train.config import Adapter
from ixc.train.param_groups import add_adapter

FOUR = Adapter(r=4, alpha=4, dropout=0.0, weight_bits=4)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UsageError, match=r"need the package bitsandbytes; install it: .*qlora.*, or take recipes/lora"):
        qlora.check(FOUR, device=torch.device("cuda"))
    qlora.check(Adapter(r=4, alpha=4, dropout=0.0), device=torch.device("cpu"), ranks=8)


def test_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", object())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"need a GPU, this is cpu .*take recipes/lora\.py"):
        qlora.check(FOUR, device=torch.device("cpu"))
    with pytest.raises(UsageError, match="not sharded over 2 devices"):
        qlora.check(FOUR, device=torch.device("cuda"), ranks=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_learns_beside_nf4() -> None:
    pytest.importorskip("bitsandbytes", reason="not installed: pip install -c constraints.txt -e '.[qlora]'")
    whole, model = load(EMBEDDED, dtype=torch.bfloat16), load(EMBEDDED, dtype=torch.bfloat16)
    names = qlora.quantise(model, FOUR.targets)
    assert len(names) == 5 * 4  # wqkv, wo, w1, w2, w3 of four blocks
    model.to("cpu")
    weight = model.get_submodule(names[0]).weight
    assert (weight.dtype, weight.numel()) == (torch.uint8, whole.get_submodule(names[0]).weight.numel() // 2)
    x = torch.randn(8, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact, near = whole.get_submodule(names[0])(x).float(), model.get_submodule(names[0])(x).float()
    # Weights near to normal lose about 9 % of their norm in nf4 (arXiv 2305.14314).
    assert 0.01 < (exact - near).norm() / exact.norm() < 0.15
    tuned = add_adapter(model, FOUR)
    ids = torch.tensor([[1, 50, 51, 52]])
    tuned(input_ids=ids, labels=ids).loss.backward()
    grads = {n for n, p in tuned.named_parameters() if p.grad is not None}
    assert grads
    assert all("lora_" in name for name in grads)
