"""One query's attention by the own kernel: as exact as the library's, whatever the number of keys and heads."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ixc.model.attention import attend
from ixc.model.kernels import ops

pytestmark = pytest.mark.skipif(ops.library() is None, reason="no C compiler")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("keys", [1, 31, 32, 33, 700, 20_000])
@pytest.mark.parametrize(("group", "width"), [(4, 128), (1, 32), (8, 64), (3, 96)])
def test_attend_one_equals_the_library_in_float64(keys: int, group: int, width: int) -> None:
    batch, heads = (2, 3) if keys < 1000 else (1, 1)
    query, key = drawn(batch, heads, group, width), drawn(batch, heads, keys, width, seed=1)
    value = drawn(batch, heads, keys, width, seed=2)
    assert ops.can_attend(query, key, value)
    found = ops.attend_one(query, key, value)
    wanted = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    library = F.scaled_dot_product_attention(query, key, value)
    # within twice the library's own rounding, and never beyond what float32 sums of `keys` numbers may lose
    allowed = 2 * (library - wanted).abs().max() + 2e-6
    assert (found - wanted).abs().max() <= allowed


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("group", "width", "keys"), [(4, 128, 700), (3, 96, 33), (1, 32, 1), (4, 128, 9_000)])
def test_attend_one_of_bfloat16_keys_sums_in_float32(kind: torch.dtype, group: int, width: int, keys: int) -> None:
    """Only the result is rounded, and with float32 queries not even that."""
    query = drawn(1, 2, group, width).to(kind)
    key, value = (drawn(1, 2, keys, width, seed=seed).bfloat16() for seed in (1, 2))
    found = ops.attend_one(query, key, value)
    wanted = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    assert found.dtype == kind
    # float32: as the test above; bfloat16: half a unit of its eight bits besides
    allowed = 5e-6 + (wanted.abs() * 2**-8 if kind == torch.bfloat16 else 0)
    assert bool(((found - wanted).abs() <= allowed).all())


@torch.inference_mode()
def test_attend_one_far_scores_neither_overflow_nor_vanish() -> None:
    """One key outweighs all others by e^800: its value is the answer. All equal: the mean is."""
    query, value = torch.full((1, 1, 4, 32), 10.0), drawn(1, 1, 90, 32)
    key = torch.full((1, 1, 90, 32), -10.0)
    assert ops.attend_one(query, key, value) == pytest.approx(
        value.mean(2, keepdim=True).expand(-1, -1, 4, -1), abs=1e-6
    )
    key[:, :, 77] = 10.0
    assert torch.equal(ops.attend_one(query, key, value)[0, 0, 2], value[0, 0, 77])


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_attend_one_takes_keys_of_a_longer_cache(kind: torch.dtype) -> None:
    """Keys of a static cache: heads are further apart than the keys in use."""
    store = drawn(1, 2, 300, 64, seed=3).to(kind)
    key, value, query = store[:, :, :100], store[:, :, 100:200], drawn(1, 2, 4, 64)
    assert ops.can_attend(query, key, value)
    found = ops.attend_one(query, key, value)
    assert torch.allclose(found, F.scaled_dot_product_attention(query, key.float(), value.float()), atol=2e-6)


def test_can_attend_leaves_the_rest_to_the_library() -> None:
    query, key = drawn(1, 2, 4, 64), drawn(1, 2, 10, 64)
    with torch.inference_mode():
        assert ops.can_attend(query.bfloat16(), key.bfloat16(), key.bfloat16())
        assert not ops.can_attend(query, key, key.bfloat16())
        assert not ops.can_attend(query.double(), key.double(), key.double())
        assert not ops.can_attend(query.half(), key.half(), key.half())
        assert not ops.can_attend(drawn(1, 2, 9, 64), key, key)
        assert not ops.can_attend(drawn(1, 2, 4, 48), drawn(1, 2, 10, 48), drawn(1, 2, 10, 48))
        assert not ops.can_attend(query, key.transpose(1, 2).contiguous().transpose(1, 2), key)
    assert not ops.can_attend(query.requires_grad_(), key, key)


@torch.inference_mode()
def test_attend_decode_step_uses_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the door that every model of grouped heads takes; under a mask it stays with the library."""
    calls: list[torch.Size] = []
    own = ops.attend_one
    monkeypatch.setattr(ops, "attend_one", lambda *given: calls.append(given[0].shape) or own(*given))
    module = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"), training=False, head_dim=64)
    query, key, value = drawn(1, 8, 1, 64), drawn(1, 2, 50, 64, seed=1), drawn(1, 2, 50, 64, seed=2)
    found, _ = attend(module, query, key, value, mask=None, dropout=0.0)
    assert calls == [(1, 2, 4, 64)]
    seen = torch.ones(1, 1, 1, 50, dtype=torch.bool)
    masked, _ = attend(module, query, key, value, mask=seen, dropout=0.0)
    assert len(calls) == 1
    assert torch.allclose(found, masked, atol=2e-6)
