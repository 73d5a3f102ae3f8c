"""Attention of many queries by the own kernel: as exact as the library's."""

import pytest
import torch
import torch.nn.functional as F

from ixc.model.kernels import many_queries

pytestmark = pytest.mark.skipif(many_queries.library() is None, reason="no C compiler or no AVX-512")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("batch", "heads", "group", "width"), [(1, 2, 4, 128), (2, 3, 1, 32), (2, 1, 2, 96)])
@pytest.mark.parametrize(("length", "before"), [(16, 0), (33, 0), (577, 0), (45, 300), (256, 31)])
def test_attend_many_equals_the_library_in_float64(
    batch: int, heads: int, group: int, width: int, length: int, before: int, causal: bool
) -> None:
    query = drawn(batch, length, heads * group, width).transpose(1, 2)
    # keys of a longer cache: heads are further apart than the keys in use
    key = drawn(batch, heads, length + before + 5, width, seed=1)[:, :, : length + before]
    value = drawn(batch, length + before, heads, width, seed=2).transpose(1, 2)
    found = many_queries.attend_many(query, key, value, causal=causal)
    mask = torch.ones(length, length + before, dtype=torch.bool).tril(before) if causal else None
    wide = [x.repeat_interleave(group, 1) for x in (key, value)]
    wanted = F.scaled_dot_product_attention(query.double(), *(x.double() for x in wide), attn_mask=mask)
    library = F.scaled_dot_product_attention(query, *wide, attn_mask=mask)
    allowed = 2 * (library - wanted).abs().max() + 2e-6
    assert (found - wanted.transpose(1, 2)).abs().max() <= allowed


@torch.inference_mode()
def test_attend_many_of_bfloat16_sums_in_float32() -> None:
    """Only the result is rounded: half a unit of its eight bits."""
    query, key, value = (drawn(1, 2, 40, 64, seed=seed).bfloat16() for seed in range(3))
    found = many_queries.attend_many(query, key, value, causal=True)
    wide = (x.double() for x in (query, key, value))
    wanted = F.scaled_dot_product_attention(*wide, is_causal=True).transpose(1, 2)
    assert found.dtype == torch.bfloat16
    assert bool(((found - wanted).abs() <= wanted.abs() * 2**-8 + 5e-6).all())


@torch.inference_mode()
def test_attend_many_far_scores_neither_overflow_nor_vanish() -> None:
    """One key outweighs all others by e^500: its value is the answer of the queries that see it."""
    query, key, value = torch.full((1, 1, 600, 32), 10.0), torch.full((1, 1, 600, 32), -10.0), drawn(1, 1, 600, 32)
    key[:, :, 300] = 10.0
    found = many_queries.attend_many(query, key, value, causal=True)[0, :, 0]
    assert torch.equal(found[300:], value[0, 0, 300].expand(300, -1))
    torch.testing.assert_close(found[299], value[0, 0, :300].mean(0), atol=1e-6, rtol=0)


def test_usable_leaves_the_rest_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_queries, "_is_faster", lambda kind: True)
    x = drawn(1, 2, 64, 32)
    assert not many_queries.usable(x, x, x)  # gradients
    with torch.inference_mode():
        assert many_queries.usable(x, x, x)
        assert not many_queries.usable(x[:, :, :8], x, x)
        assert many_queries.usable(x.bfloat16(), x.bfloat16(), x.bfloat16())
        assert not many_queries.usable(x.bfloat16(), x, x)
        assert not many_queries.usable(x.half(), x.half(), x.half())
        assert not many_queries.usable(x[..., :16], x[..., :16], x[..., :16])
        monkeypatch.setattr(many_queries, "_is_faster", lambda kind: False)
        assert not many_queries.usable(x, x, x)
