"""Partial LoRA: only image tokens see it, and nobody who swaps linear maps can lose it."""

import pytest
import torch
from parity.model_goldens import FOLDER, INFERENCE, inputs
from torch import nn

from ixc.model.configuration import IxcTextConfig
from ixc.model.decoder import Decoder
from ixc.model.loading import load
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.plora import PLoRALinear

MASK = torch.tensor([[True, True, False, False], [False, False, False, True]])


def layer(dropout: float = 0.0) -> PLoRALinear:
    torch.manual_seed(0)
    plora = PLoRALinear(6, 5, r=2, alpha=4, dropout=dropout)
    nn.init.normal_(plora.Plora_B.weight)
    return plora


def test_plora_formula_and_mask() -> None:
    plora, x = layer(), torch.randn(2, 4, 6)
    base = x @ plora.base.weight.T
    addition = 2.0 * x @ plora.Plora_A.weight.T @ plora.Plora_B.weight.T
    torch.testing.assert_close(plora(x, MASK)[MASK], (base + addition)[MASK])
    assert torch.equal(plora(x, MASK)[~MASK], plora(x, None)[~MASK])


def test_plora_dropout_is_on_the_addition_in_training_only() -> None:
    plora, x = layer(dropout=0.5), torch.randn(2, 4, 6)
    assert not torch.equal(plora(x, MASK)[MASK], plora(x, MASK)[MASK])
    assert torch.equal(plora(x, MASK)[~MASK], plora(x, None)[~MASK])
    plora.eval()
    assert torch.equal(plora(x, MASK), plora(x, MASK))


def test_plora_text_batch_has_zero_gradients_not_none() -> None:
    plora = layer()
    plora(torch.randn(2, 4, 6), torch.zeros_like(MASK)).sum().backward()
    assert plora.Plora_A.weight.grad is not None
    assert plora.Plora_B.weight.grad.abs().max() == 0


def test_plora_of_fresh_weights_changes_nothing() -> None:
    decoder = Decoder(IxcTextConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
                                    num_key_value_heads=2, vocab_size=20, plora_r=4, plora_qkv_r=2))  # fmt: skip
    assert all(value.abs().max() == 0 for key, value in decoder.named_parameters() if "Plora_B" in key)
    assert all(value.abs().max() > 0 for key, value in decoder.named_parameters() if "Plora_A" in key)


def test_plora_published_ranks() -> None:
    with torch.device("meta"):
        decoder = Decoder(IxcTextConfig(num_hidden_layers=1))
    attention, feed_forward = decoder.layers[0].attention, decoder.layers[0].feed_forward
    assert (attention.wqkv.Plora_A.out_features, attention.wqkv.scaling) == (8, 2.0)
    for linear in (attention.wo, feed_forward.w1, feed_forward.w2, feed_forward.w3):
        assert (linear.Plora_A.out_features, linear.scaling) == (256, 1.0)


class Rounded(nn.Module):
    """What a quantizer leaves in the place of a linear map."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def swap_linears(module: nn.Module) -> int:
    """Replaces every nn.Linear below, as quantizers and serving engines do."""
    swapped = 0
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Rounded(child))
            swapped += 1
        else:
            swapped += swap_linears(child)
    return swapped


@torch.no_grad()
def test_plora_addition_survives_swapping_every_linear() -> None:
    model: IxcForConditionalGeneration = load(FOLDER).eval()
    given = inputs(INFERENCE["square_1x1"])
    wanted = model(**given).logits
    assert swap_linears(model.model.language_model) == 2 * 5 * 3  # layers, linear maps, parts
    assert torch.equal(model(**given).logits, wanted)


@pytest.mark.parametrize("frozen", [False, True])
def test_plora_spans_and_a_mask_learn_the_same(frozen: bool) -> None:
    plora = layer()
    plora.base.requires_grad_(not frozen)
    x, spans = torch.randn(2, 9, 6, requires_grad=True), ((1, 4), (6, 8))
    mask = torch.zeros(2, 9, dtype=torch.bool)
    for start, stop in spans:
        mask[:, start:stop] = True
    learning = [x, *(p for p in plora.parameters() if p.requires_grad)]
    found = []
    for places in (mask, spans):
        y = plora(x, places)
        found.append([y, *torch.autograd.grad(y.square().sum(), learning)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
