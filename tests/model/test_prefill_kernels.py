"""Products of many rows: quantized weights through bfloat16 strips, and the choice of the fastest product."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ixc.model import linear as linear_module
from ixc.model.kernels import ops, prefill, products
from ixc.model.linear import linear
from ixc.model.quantization.layers import HalfPrecisionLinear, QuantizedLinear, quantize_weight

needs_compiler = pytest.mark.skipif(prefill.library() is None, reason="no C compiler")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(out: int, width: int, *, bits: int, group: int = 128) -> QuantizedLinear:
    module = QuantizedLinear(width, out, bits=bits, group_size=group)
    module.load_state_dict(quantize_weight(drawn(out, width, seed=1), bits=bits, group_size=group))
    return module


@needs_compiler
@torch.inference_mode()
@pytest.mark.parametrize(("bits", "group"), [(8, 128), (4, 128), (4, 64), (4, 32)])
@pytest.mark.parametrize("strip_bytes", [1 << 13, 1 << 20])
def test_unpacked_linear_equals_the_product_in_float64(
    bits: int, group: int, strip_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the weights that are stored; the last strip is shorter than the others."""
    monkeypatch.setattr(prefill, "STRIP_BYTES", strip_bytes)
    module, x = quantized(200, 256, bits=bits, group=group), drawn(2, 30, 256)
    found = prefill.unpacked_linear(x, module.q, module.scale, module.low)
    weights = module.dequantized().double()
    wanted = x.double() @ weights.t()
    # x, the result and (4 bits) the weights are rounded to bfloat16, each by at most 2^-9 of itself
    allowed = (x.double().abs() @ weights.abs().t()) * 2**-9 * (3 if bits == 4 else 2)
    assert found.shape == (2, 30, 200)
    assert found.dtype == torch.float32
    assert bool(((found - wanted).abs() <= allowed).all())
    # and no systematic error: the mean one is far below what one rounding may cost
    assert float((found - wanted).mean().abs()) < 2**-9 * float(wanted.abs().mean())


@pytest.mark.skipif(prefill.library4() is None, reason="no C compiler, or no AVX512-VNNI")
@torch.inference_mode()
@pytest.mark.parametrize("group", [128, 64, 32])
@pytest.mark.parametrize("rows", [1, 4, 33, 1030])
@pytest.mark.parametrize(("out", "width"), [(200, 640), (64, 1152), (7, 128)])
def test_whole_number_linear_equals_the_decode_kernel(group: int, rows: int, out: int, width: int) -> None:
    """Both round x to 8 bits a group: what is left are float32 sums in another order."""
    module, x = quantized(out, width, bits=4, group=group), drawn(2, rows, width)
    assert module.low is not None
    found = prefill.whole_number_linear(x, module.q, module.scale, module.low)
    wanted = ops.linear4(x, module.q, module.scale, module.low)
    assert found.shape == (2, rows, out)
    assert float((found - wanted).abs().max()) <= 2e-6 * float(wanted.abs().max()) + 1e-6


@needs_compiler
@torch.inference_mode()
@pytest.mark.parametrize("faster", [False, True])
def test_quantized_linear_of_4_bits_takes_the_faster_way(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "_whole_numbers_are_faster", lambda: faster)
    monkeypatch.setattr(prefill, "library4", lambda: object())
    monkeypatch.setattr(prefill, "whole_number_linear", lambda *_: "whole numbers")
    monkeypatch.setattr(prefill, "unpacked_linear", lambda *_: "unpacked")
    module = quantized(64, 64, bits=4, group=64)
    expected = "whole numbers" if faster else "unpacked"
    assert prefill.quantized_linear(drawn(40, 64), module.q, module.scale, module.low) == expected
    assert prefill.quantized_linear(drawn(40, 96), module.q, module.scale, module.low) == "unpacked"
    assert prefill.quantized_linear(drawn(40, 64), module.q, module.scale, None) == "unpacked"


@needs_compiler
@torch.inference_mode()
def test_quantized_linear_of_8_bits_holds_the_weights_exactly() -> None:
    """One row of a unit matrix after the other: the weights come back, but for the rounding of the result."""
    module = quantized(64, 64, bits=8)
    found = prefill.quantized_linear(torch.eye(64), module.q, module.scale, None)
    assert torch.equal(found, module.dequantized().t())


@needs_compiler
@torch.inference_mode()
def test_quantized_linear_is_called_for_many_rows_of_large_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = prefill.quantized_linear

    def counted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        calls.append(x.shape[-2])
        return real(x, *rest)

    monkeypatch.setattr(prefill, "quantized_linear", counted)
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    large, small = quantized(1024, 1024, bits=8), quantized(64, 64, bits=8)
    for module in (large, small):
        for rows in (1, prefill.MIN_ROWS - 1, prefill.MIN_ROWS, 50):
            module(drawn(1, rows, module.in_features))
    assert calls == [prefill.MIN_ROWS, 50]
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: False)
    large(drawn(1, 50, 1024))
    assert len(calls) == 2


@needs_compiler
@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
def test_half_linear_equals_the_product_in_float32(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    module = nn.Linear(1024, 1024, bias=bias).bfloat16()
    module.__class__ = HalfPrecisionLinear
    x = drawn(2, 40, 1024)
    found, few = module(x), module(x[:, :3])
    wanted = torch.nn.functional.linear(
        x.bfloat16().float(), module.weight.float(), module.bias.float() if bias else None
    )
    assert found.dtype == few.dtype == torch.float32
    assert torch.allclose(found, wanted, rtol=2**-8, atol=1e-3)
    # few rows keep all of x: closer to it than x rounded is
    assert torch.allclose(
        few,
        torch.nn.functional.linear(x[:, :3], module.weight.float(), None if not bias else module.bias.float()),
        atol=1e-5,
    )


class Recorded(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_linear_of_a_sliced_last_position_in_bfloat16_copies_no_weights() -> None:
    # With weights that require a gradient torch takes another way: those of a loaded model do not.
    module, hidden = nn.Linear(64, 96, bias=False).bfloat16().requires_grad_(False), drawn(1, 20, 64).bfloat16()
    with Recorded() as ours:
        found = linear(module, hidden[:, -1:])
    assert torch.equal(found, module(hidden[:, -1:]))
    assert "aten.mm.default" in ours.names
    assert "aten.bmm.default" not in ours.names


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_linear_equals_the_module(kind: torch.dtype, rows: int) -> None:
    module = nn.Linear(1024, 1056).to(kind)
    x = drawn(2, rows, 1024).to(kind)
    # float32: sums of 1,024 products in another order; bfloat16: one rounding of the result
    assert torch.allclose(linear(module, x), module(x), atol=1e-5 if kind == torch.float32 else 2**-7)


@torch.inference_mode()
def test_linear_leaves_a_module_of_accelerate_alone() -> None:
    """accelerate replaces `forward` and brings the weight from elsewhere."""
    module = nn.Linear(1024, 1024)
    module._hf_hook = object()  # type: ignore[assignment]
    module.forward = lambda x: x + 1  # type: ignore[method-assign]
    assert torch.equal(linear(module, torch.zeros(1, 1024)), torch.ones(1, 1024))


@pytest.fixture
def unmeasured() -> Iterator[None]:
    for choice in (products.prefers_onednn, products.has_fast_bfloat16):
        choice.cache_clear()
    yield
    for choice in (products.prefers_onednn, products.has_fast_bfloat16):
        choice.cache_clear()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("slow", ["onednn", "float32"])
def test_prefers_onednn_takes_the_faster_product(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*_: Any) -> torch.Tensor:
        time.sleep(0.05)
        return torch.zeros(1)

    def quickly(*_: Any) -> torch.Tensor:
        return torch.zeros(1)

    monkeypatch.setattr(products, "onednn", slowly if slow == "onednn" else quickly)
    monkeypatch.setattr(products.F, "linear", quickly if slow == "onednn" else slowly)
    assert products.prefers_onednn() == (slow == "float32")


@pytest.mark.usefixtures("unmeasured")
def test_has_fast_bfloat16_needs_units_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_fastest", lambda *names: "bfloat16")
    for units in (False, True):
        products.has_fast_bfloat16.cache_clear()
        monkeypatch.setattr(products, "_has_units", lambda units=units: units)
        assert products.has_fast_bfloat16() == units


@torch.inference_mode()
def test_linear_measures_for_many_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(products, "prefers_onednn", lambda: bool(asked.append(True)))
    linear(nn.Linear(64, 64), drawn(1, linear_module.MIN_ROWS - 1, 64))
    linear(nn.Linear(1024, 1024), drawn(1, linear_module.MAX_ROWS, 1024))
    assert asked == []
    linear(nn.Linear(1024, 1024), drawn(1, linear_module.MAX_ROWS + 1, 1024))
    linear(nn.Linear(64, 64), drawn(1, linear_module.MIN_ROWS, 64))
    assert asked == [True, True]
