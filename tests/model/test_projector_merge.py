"""The merges teach what lies before them: gradients reach every patch. One of them once crashed inside torch."""

import pytest
import torch

from ixc.model.configuration import IxcVisionConfig
from ixc.model.projector_merge import MERGE


@pytest.mark.parametrize("name", sorted(MERGE))
def test_projector_merge_gradients_reach_every_patch(name: str) -> None:
    # 8 x 8 patches, a width of 96: the shape at which the backward pass of GroupNorm read a null pointer
    config = IxcVisionConfig(hidden_size=96, intermediate_size=96, num_attention_heads=4, image_size=112)
    merge = MERGE[name](config)
    patches = torch.randn(8, 64, 96, requires_grad=True)
    tokens = merge(patches)
    assert tokens.shape == (8, 16, 384)
    tokens.square().mean().backward()
    assert patches.grad is not None
    assert bool((patches.grad.abs().sum(-1) > 0).all())
