"""A decode step's float products by the own kernel: as exact as the library's, and taken where they are faster."""

import pytest
import torch
from torch import nn

from ixc.model.kernels import dense
from ixc.model.linear import linear

pytestmark = pytest.mark.skipif(dense.library() is None, reason="no C compiler")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize(("out", "width"), [(300, 64), (1, 32), (128, 4096), (127, 96)])
def test_multiply_equals_the_product_in_float64(kind: torch.dtype, rows: int, out: int, width: int) -> None:
    x, weight = drawn(1, rows, width).to(kind), drawn(out, width, seed=1).to(kind)
    found = dense.multiply(x, weight)
    wanted = x.double() @ weight.double().t()
    # sums in float32; bfloat16: the result is rounded to its eight bits besides
    allowed = 2e-6 * (x.double().abs() @ weight.double().abs().t())
    if kind == torch.bfloat16:
        allowed = allowed + wanted.abs() * 2**-8
    assert found.shape == (1, rows, out)
    assert found.dtype == kind
    assert bool(((found - wanted).abs() <= allowed).all())


@torch.inference_mode()
def test_usable_leaves_the_rest_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_is_faster", lambda x, weight: True)
    monkeypatch.setattr(dense, "_choices", {})
    weight = torch.zeros(4096, 2048)
    assert dense.usable(drawn(1, 1, 2048), weight)
    assert dense.usable(drawn(1, dense.MAX_ROWS, 2048), weight)
    assert not dense.usable(drawn(1, dense.MAX_ROWS + 1, 2048), weight)
    assert not dense.usable(drawn(1, 1, 2048), weight[:64])
    assert not dense.usable(drawn(1, 1, 4096), weight.t())
    assert not dense.usable(drawn(1, 1, 2040), torch.zeros(4096, 2040))


@torch.inference_mode()
@pytest.mark.parametrize("faster", [False, True])
def test_usable_measures_once_a_dtype(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []

    def measured(x: torch.Tensor, weight: torch.Tensor) -> bool:
        asked.append(weight.dtype)
        return faster

    monkeypatch.setattr(dense, "_is_faster", measured)
    monkeypatch.setattr(dense, "_choices", {})
    weight = torch.zeros(8192, 1024)
    for kind in (torch.float32, torch.bfloat16, torch.float32):
        assert dense.usable(drawn(1, 1, 1024).to(kind), weight.to(kind)) == faster
    assert asked == [torch.float32, torch.bfloat16]


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_linear_takes_the_kernel_for_one_row_of_a_large_weight(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_choices", {kind: True})
    calls: list[int] = []
    real = dense.multiply

    def counted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape[1])
        return real(x, weight)

    monkeypatch.setattr(dense, "multiply", counted)
    module = nn.Linear(1024, 8192, bias=False).to(kind)
    for rows in (1, 4, 5):
        x = drawn(1, rows, 1024).to(kind)
        assert torch.allclose(linear(module, x), module(x), rtol=2**-7, atol=1e-2 if kind == torch.bfloat16 else 1e-5)
    assert calls == [1, 4]
    linear(nn.Linear(1024, 8192).to(kind), drawn(1, 1, 1024).to(kind))
    assert calls == [1, 4]
