"""Losses, checkpointing and adapters."""

import pytest
import torch
from parity.model_goldens import FOLDER, RECORD, TENSORS, inputs

from ixc.errors import DataError
from ixc.model.loading import load
from ixc.model.modeling import IxcForConditionalGeneration
from ixc.model.transformers_contract import enable_activation_checkpointing

CASE = RECORD["training_cases"][0]
LABELS = TENSORS[f"{CASE['name']}.labels"].long()[None]


@pytest.fixture
def model() -> IxcForConditionalGeneration:
    return load(FOLDER).eval()


def test_modeling_loss_does_not_depend_on_the_logits_kept(model: IxcForConditionalGeneration) -> None:
    with torch.no_grad():
        every = model(**inputs(CASE), labels=LABELS)
        last = model(**inputs(CASE), labels=LABELS, logits_to_keep=1)
        some = model(**inputs(CASE), logits_to_keep=torch.tensor([3, 470]))
    assert every.loss == last.loss
    assert (every.logits.shape[1], last.logits.shape[1]) == (478, 1)
    torch.testing.assert_close(some.logits, every.logits[:, [3, 470]])
    assert every.logits.dtype == torch.float32


def test_modeling_loss_over_an_accumulated_batch(model: IxcForConditionalGeneration) -> None:
    with torch.no_grad():
        mean = model(**inputs(CASE), labels=LABELS, logits_to_keep=1).loss
        part = model(**inputs(CASE), labels=LABELS, logits_to_keep=1, num_items_in_batch=70).loss
    assert part.item() == pytest.approx(mean.item() * CASE["num_label_tokens"] / 70, rel=1e-6)


def test_modeling_without_labels_is_an_error(model: IxcForConditionalGeneration) -> None:
    with pytest.raises(DataError, match="none of the 478 labels"):
        model(**inputs(CASE), labels=torch.full_like(LABELS, -100))


def test_enable_activation_checkpointing_gives_the_same_gradients(model: IxcForConditionalGeneration) -> None:
    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(**inputs(CASE), labels=LABELS, logits_to_keep=1, use_cache=False).loss.backward()
        return [value.grad for value in model.parameters() if value.grad is not None]

    wanted = gradients()
    model.train()  # checkpointing acts in training only
    for layer in model.model.language_model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    enable_activation_checkpointing(model, use_reentrant=False)
    found = gradients()
    assert model.model.language_model.layers[0].gradient_checkpointing
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks for the old name
def test_modeling_lora_of_peft(model: IxcForConditionalGeneration) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=r"model\.language_model\..*\.base", modules_to_save=["vision_proj"])
    with torch.no_grad():
        wanted = model(**inputs(CASE)).logits
    adapted = peft.get_peft_model(model, config)
    loss = adapted(**inputs(CASE), labels=LABELS, logits_to_keep=1).loss
    loss.backward()
    assert loss.item() == pytest.approx(CASE["loss"], rel=1e-5)
    trained = [key for key, value in adapted.named_parameters() if value.grad is not None]
    assert any("wqkv.base.lora_A" in key for key in trained)
    assert any("vision_proj" in key for key in trained)
    merged = adapted.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs(CASE)).logits, wanted)
