"""bf16 products while training: the same attention, gradients and updates up to the rounding of bf16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ixc.model.plora import PLoRALinear
from ixc.nano import bf16_cpu
from ixc.nano.attention_recorder import AttentionRecorder
from ixc.nano.data.question_packing import PackedSpan, attend_packed
from ixc.nano.drawn_config import read_recipe
from ixc.nano.losses.attention_supervision import AttentionSupervision
from ixc.nano.optim import orthogonalise
from ixc.nano.stages.joint import Joint
from ixc.nano.stages.layout_lm import prepare

here = pytest.mark.skipif(bf16_cpu.library() is None, reason="no bf16 units here, or no C compiler")
ROUNDING = 0.006
"""Relative: bf16 keeps 8 bits, and errors of sums average out."""


def drawn(batch: int, heads: int, rows: int) -> list[Tensor]:
    """Queries, keys, values as the model makes them: heads side by side in one token."""
    maker = torch.Generator().manual_seed(rows)
    made = [torch.randn(batch, rows, heads, 32, generator=maker) for _ in range(3)]
    return [x.transpose(1, 2).requires_grad_() for x in made]


def both(given: list[Tensor], *, prefix: int, questions: int) -> list[list[Tensor]]:
    """Output and gradients, in float32 and quick."""
    found = []
    for wanted in (False, True):
        with bf16_cpu.bf16_products(wanted=wanted):
            packing = PackedSpan(prefix, questions)
            out, _ = attend_packed(torch.nn.Identity(), *given, None, scaling=32**-0.5, packing=packing)
        maker = torch.Generator().manual_seed(1)
        found.append([out, *torch.autograd.grad(out, given, torch.randn(out.shape, generator=maker))])
    return found


@here
@pytest.mark.parametrize(
    ("batch", "heads", "prefix", "questions", "length"),
    [(1, 1, 1, 0, 0), (1, 2, 16, 1, 16), (1, 2, 37, 3, 5), (2, 4, 160, 5, 23), (1, 2, 48, 2, 17), (1, 8, 700, 9, 33)],
)
def test_attend_packed_and_its_gradients(batch: int, heads: int, prefix: int, questions: int, length: int) -> None:
    given = drawn(batch, heads, prefix + questions * length)
    for exact, fast in zip(*both(given, prefix=prefix, questions=questions), strict=True):
        assert (exact - fast).norm() < ROUNDING * exact.norm() + 1e-3


@here
def test_attend_without_causality() -> None:
    given = drawn(2, 3, 75)
    with bf16_cpu.bf16_products():
        fast = bf16_cpu.attend(*given, prefix=75, questions=0, scaling=0.2, causal=False)
    exact = torch.nn.functional.scaled_dot_product_attention(*given, scale=0.2)
    assert (exact - fast).norm() < ROUNDING * exact.norm()


@here
def test_attend_with_large_scores() -> None:
    query, key, value = (x.detach() for x in drawn(1, 1, 64))
    query, key = query * 60, key * 60
    with bf16_cpu.bf16_products():
        out = bf16_cpu.attend(query, key, value, prefix=64, questions=0, scaling=1.0)
    assert out.isfinite().all()
    assert torch.allclose(out[0, 0, 0], value[0, 0, 0], atol=0.02)


@here
def test_attention_recorder_records_in_both_types() -> None:
    given = drawn(1, 4, 60 + 3 * 7)
    attention_supervision = (
        AttentionSupervision(layer=0, head=2, weight=1.0),
        AttentionSupervision(layer=0, head=1, weight=1.0, target="row_key"),
    )
    looks = []
    for wanted in (False, True):
        recorder = AttentionRecorder(attention_supervision=attention_supervision)
        layer = SimpleNamespace(layer_idx=0)
        with bf16_cpu.bf16_products(wanted=wanted):
            attend_packed(layer, *given, None, scaling=0.2, packing=PackedSpan(60, 3, recorder))  # pyright: ignore[reportArgumentType]
        looks.append(
            (recorder.attention[attention_supervision[0]], *recorder.queries_and_keys[attention_supervision[1]])
        )
    for exact, fast in zip(*looks, strict=True):
        assert exact.shape == fast.shape
        assert (exact - fast).norm() < 2 * ROUNDING * exact.norm()


@here
def test_bf16_products_end_with_their_block() -> None:
    assert not bf16_cpu.is_active()
    with bf16_cpu.bf16_products():
        assert bf16_cpu.is_active()
        assert torch.get_float32_matmul_precision() == "medium"
    assert not bf16_cpu.is_active()
    assert torch.get_float32_matmul_precision() == "highest"


@here
@pytest.mark.parametrize("shape", [(3, 40, 24), (2, 24, 40), (1, 32, 32)])
def test_orthogonalise_in_both_types(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact = orthogonalise(matrices)
    with bf16_cpu.bf16_products():
        fast = orthogonalise(matrices)
    assert fast.dtype == torch.float32
    assert (exact - fast).norm() < 0.03 * exact.norm()


@here
@pytest.mark.parametrize("frozen", [False, True])
def test_linear_and_its_gradients(frozen: bool) -> None:
    """Of many rows: those of few are left to torch."""
    layer = torch.nn.Linear(24, 40).requires_grad_(not frozen)
    for rows in (bf16_cpu.MANY, 7):
        x = torch.randn(2, rows // 2 + 1, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
        found = []
        for wanted in (False, True):
            with bf16_cpu.bf16_products(wanted=wanted):
                y = layer(x)
            assert y.dtype == torch.float32
            assert (y.grad_fn.name() == "_MapBackward") == (wanted and rows == bf16_cpu.MANY)
            found.append(
                [y, *torch.autograd.grad(y.square().sum(), [x, *(p for p in layer.parameters() if not frozen)])]
            )
        for exact, fast in zip(*found, strict=True):
            assert (exact - fast).norm() < ROUNDING * exact.norm()


@here
def test_plora_linear_and_its_gradients() -> None:
    layer = PLoRALinear(24, 40, r=4, alpha=4.0)
    torch.nn.init.normal_(layer.Plora_B.weight)
    x = torch.randn(2, 90, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for wanted in (False, True):
        with bf16_cpu.bf16_products(wanted=wanted):
            y = layer(x, ((4, 50), (60, 70)))
            found.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for exact, fast in zip(*found, strict=True):
        assert fast.dtype == torch.float32
        assert 0 < (exact - fast).norm() < ROUNDING * exact.norm()


def test_bf16_products_without_avx512_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_cpu, "library", lambda: None)
    with bf16_cpu.bf16_products():
        assert not bf16_cpu.is_active()
        assert torch.get_float32_matmul_precision() == "highest"


@here
def test_joint_step_in_both_types(tmp_path: Path) -> None:
    """Tower and reader with heads as wide as the kernel's: the same pages, loss and gradients but for rounding."""
    losses, learned = [], []
    for wanted in (False, True):
        plan = read_recipe(Path(__file__).with_name("tiny_recipe.py"))
        text, vision = plan.model.text_config, plan.model.vision_config
        text.hidden_size = vision.hidden_size = 64
        text.head_dim = 32
        recipe = replace(
            plan.joint, attention_supervision=(AttentionSupervision(layer=0, head=1, weight=0.3),), tower_from=0.0
        )
        joint = Joint(plan.model, recipe, tmp_path)
        prepare(joint.model.model.language_model)
        torch.nn.init.normal_(joint.model.model.language_model.layers[0].attention.wo.base.weight, std=0.05)
        with bf16_cpu.bf16_products(wanted=wanted):
            losses.append(joint.joint_step()[0])
        learned.append([o.state[p]["momentum"] for o in joint.optims[:1] for g in o.param_groups for p in g["params"]])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert len(learned[0]) > 8
    for exact, fast in zip(*learned, strict=True):
        assert (exact - fast).norm() < 0.05 * exact.norm() + 1e-6
