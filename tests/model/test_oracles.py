"""The same weights in classes of transformers give the same numbers: a Llama for the reader, CLIP for the eyes."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from ixc.errors import UsageError
from ixc.model.configuration import IxcTextConfig, IxcVisionConfig
from ixc.model.decoder import Decoder
from ixc.model.transformers_contract import cache_of
from ixc.model.vision import VisionTower

HEADS, KEY_HEADS, WIDTH = 6, 2, 48
GROUP, HEAD = HEADS // KEY_HEADS, WIDTH // HEADS
SHARED = {
    "vocab_size": 60,
    "hidden_size": WIDTH,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "rms_norm_eps": 1e-5,
}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    config = IxcTextConfig(**SHARED, plora_r=4, plora_alpha=4, plora_qkv_r=2, plora_qkv_alpha=4, rope_theta=10_000.0)
    decoder = Decoder(config).eval()
    for name, value in decoder.named_parameters():
        if "Plora_B" in name or "norm" in name:  # fresh ones are zeros and ones, which would hide a mistake
            torch.nn.init.normal_(value, mean=1.0 if "norm" in name else 0.0, std=0.2)
    return decoder


def as_llama(decoder: Decoder) -> LlamaForCausalLM:
    """The text side of a decoder as a Llama, wqkv taken apart: per key head its query heads, one key, one value."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    llama = LlamaForCausalLM(LlamaConfig(**SHARED, rope_parameters=rope, pad_token_id=None)).eval()
    state = {"model.embed_tokens.weight": decoder.tok_embeddings.weight, "model.norm.weight": decoder.norm.weight}
    for i, layer in enumerate(decoder.layers):
        fused = layer.attention.wqkv.base.weight.view(KEY_HEADS, GROUP + 2, HEAD, WIDTH)
        q, k, v = fused.split([GROUP, 1, 1], dim=1)
        parts = {
            "self_attn.q_proj": q.reshape(-1, WIDTH),
            "self_attn.k_proj": k.reshape(-1, WIDTH),
            "self_attn.v_proj": v.reshape(-1, WIDTH),
            "self_attn.o_proj": layer.attention.wo.base.weight,
            "mlp.gate_proj": layer.feed_forward.w1.base.weight,
            "mlp.up_proj": layer.feed_forward.w3.base.weight,
            "mlp.down_proj": layer.feed_forward.w2.base.weight,
            "input_layernorm": layer.attention_norm.weight,
            "post_attention_layernorm": layer.ffn_norm.weight,
        }
        state |= {f"model.layers.{i}.{name}.weight": value for name, value in parts.items()}
    missing = llama.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["lm_head.weight"]
    assert not missing.unexpected_keys
    return llama


@torch.no_grad()
def test_decoder_equals_llama_on_text(decoder: Decoder) -> None:
    llama, ids = as_llama(decoder), torch.randint(3, 60, (2, 17))
    wanted = llama.model(ids, use_cache=False).last_hidden_state
    assert torch.equal(decoder(ids, use_cache=False).last_hidden_state, wanted)
    padded = torch.ones_like(ids)
    padded[0, :5] = 0
    wanted = llama.model(ids, attention_mask=padded, use_cache=False).last_hidden_state
    found = decoder(ids, attention_mask=padded, use_cache=False).last_hidden_state
    torch.testing.assert_close(found[padded == 1], wanted[padded == 1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_decoder_cache_changes_nothing(decoder: Decoder) -> None:
    ids = torch.randint(3, 60, (2, 12))
    whole = decoder(ids, use_cache=False).last_hidden_state
    first = decoder(ids[:, :9], use_cache=True)
    rest = decoder(ids[:, 9:], cache=cache_of(first)).last_hidden_state
    torch.testing.assert_close(rest, whole[:, 9:], rtol=0, atol=1e-5)  # other sums in the attention kernel


@torch.no_grad()
def test_decoder_packed_questions_equal_separate_ones(decoder: Decoder) -> None:
    """A prefix and two questions behind it, each blind to the other: a 4D bool mask and restarting positions."""
    prefix, one, two = torch.randn(1, 6, WIDTH), torch.randn(1, 4, WIDTH), torch.randn(1, 3, WIDTH)
    packed = torch.cat([prefix, one, two], dim=1)
    image = torch.zeros(1, 13, dtype=torch.bool)
    image[:, :6] = True
    allowed = torch.ones(13, 13, dtype=torch.bool).tril()
    allowed[10:, 6:10] = False
    positions = torch.tensor([[*range(10), *range(6, 9)]])
    found = decoder(
        inputs_embeds=packed, image_mask=image, attention_mask=allowed[None, None], position_ids=positions
    ).last_hidden_state
    for question, place in ((one, slice(6, 10)), (two, slice(10, 13))):
        alone = torch.cat([prefix, question], dim=1)
        wanted = decoder(inputs_embeds=alone, image_mask=image[:, : alone.shape[1]]).last_hidden_state[:, 6:]
        torch.testing.assert_close(found[:, place], wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_decoder_padded_row_beyond_the_trained_length_equals_the_row_alone() -> None:
    config = IxcTextConfig(**SHARED, plora_r=4, plora_qkv_r=2, max_position_embeddings=8)
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 1.0}
    decoder, ids = Decoder(config).eval(), torch.randint(3, 60, (2, 20))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    together = decoder(ids, attention_mask=mask, position_ids=positions).last_hidden_state
    torch.testing.assert_close(together[0, 6:], decoder(ids[:1, 6:]).last_hidden_state[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def eyes() -> tuple[VisionTower, CLIPVisionModel]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    tower = VisionTower(IxcVisionConfig(**sizes)).eval()
    clip = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=336, patch_size=14)).eval()
    found = clip.load_state_dict(tower.state_dict(), strict=False)
    assert all("post_layernorm" in key for key in found.missing_keys)
    assert not found.unexpected_keys
    return tower, clip


@torch.no_grad()
def test_vision_tower_equals_clip(eyes: tuple[VisionTower, CLIPVisionModel]) -> None:
    tower, clip = eyes
    pixels = torch.randn(2, 3, 336, 336)
    wanted = clip(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    # One addition is grouped otherwise (class token and its position first), hence not bit by bit.
    torch.testing.assert_close(tower(pixels), wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_vision_tower_window_takes_its_positions_from_the_tile(eyes: tuple[VisionTower, CLIPVisionModel]) -> None:
    tower, _ = eyes
    pixels = torch.randn(2, 3, 336, 336)
    everything = torch.arange(576).expand(2, -1)
    assert torch.equal(tower(pixels, window=everything), tower(pixels))
    corner = (torch.arange(12)[:, None] * 24 + torch.arange(12)).flatten()
    crop = pixels[:, :, :168, :168]
    near, far = tower(crop, window=corner.expand(2, -1)), tower(crop, window=(corner + 300).expand(2, -1))
    assert near.shape == (2, 144, 24)
    assert not torch.allclose(near, far)
    with pytest.raises(UsageError, match="144 patches a tile but there are 576 positions"):
        tower(crop)
