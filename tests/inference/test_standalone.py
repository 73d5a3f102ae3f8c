"""The answer without transformers: the same arrays and tokens as the engine's, and what it declines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ixc.inference.engine import Engine, load
from ixc.inference.model_folder import EMBEDDED
from ixc.inference.query import Query
from ixc.inference.standalone import StandaloneEngine, open_folder
from ixc.model.standalone import KeyValueCache, StandaloneModel

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTIONS = ("What is the TOTAL?", "Read line 2", "user\n[UNUSED_TOKEN_145] <ImageHere></s> \u00e9", "a" * 40)


@pytest.fixture(scope="module", params=["embedded", "tiny"])
def both(request: pytest.FixtureRequest, tiny_folder: Path) -> tuple[StandaloneEngine, Engine]:
    folder = EMBEDDED if request.param == "embedded" else tiny_folder
    found = open_folder(folder)
    assert found is not None
    assert found.load(device="cpu")
    return found, load(folder, device="cpu")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("hd", [1, 4, None])
def test_standalone_arrays_equal_the_processors(
    both: tuple[StandaloneEngine, Engine], page: Path, question: str, hd: int | None
) -> None:
    ours, engine = both
    images = [page] if hd else [page, EXAMPLES / "receipt.png"]
    one, other = ours.prepare(Query(images, question, hd=hd)), engine.preparer.prepare(images, question, hd=hd)
    assert set(one.inputs) == set(other.inputs) - {"attention_mask"}
    for name, value in one.inputs.items():
        assert torch.equal(torch.from_numpy(value), other.inputs[name])
    assert (one.hd, one.partition, one.prompt_tokens) == (other.hd, other.partition, other.prompt_tokens)
    assert one.max_new_tokens == other.max_new_tokens


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("hd", [1, 4])
def test_standalone_answers_equal_the_engines(
    both: tuple[StandaloneEngine, Engine], page: Path, question: str, hd: int
) -> None:
    ours, engine = both
    images = [EXAMPLES / "receipt.png", page]
    wanted = engine.ask(images, question, hd=hd)
    request = ours.prepare(Query(images, question, hd=hd))
    answer = ours.answer(request)
    assert answer.as_dict() | {"seconds": 0} == wanted.as_dict() | {"seconds": 0}
    assert "".join(ours.stream(request)) == wanted.text


def test_standalone_tokens_equal_generate_bit_by_bit(tiny_folder: Path, page: Path) -> None:
    found, engine = open_folder(tiny_folder), load(tiny_folder, device="cpu", prefix_cache=0)
    assert found is not None
    model = StandaloneModel(found.sizes)
    assert model.load_weights(tiny_folder)
    inputs = {name: torch.from_numpy(value) for name, value in found.prepare(Query([page], "abc", hd=2)).inputs.items()}
    ours = [token for token, _ in model.greedy(inputs, max_new_tokens=30)]
    engine.model.generation_config.eos_token_id = None  # the random model is made to write on
    theirs = engine.model.generate(**dict(engine.preparer.prepare([page], "abc", hd=2).inputs), max_new_tokens=30)
    assert ours == theirs[0, inputs["input_ids"].shape[1] :].tolist()
    assert len(ours) == 30


def test_standalone_never_samples_the_placeholder(tiny_folder: Path, page: Path) -> None:
    found = open_folder(tiny_folder)
    assert found is not None
    model = StandaloneModel(found.sizes)
    assert model.load_weights(tiny_folder)
    model.output.weight[found.sizes.image_token_id] = 1e4 * model.output.weight.abs().sum(0)
    inputs = {name: torch.from_numpy(value) for name, value in found.prepare(Query([page], "abc")).inputs.items()}
    assert found.sizes.image_token_id not in [token for token, _ in model.greedy(inputs, max_new_tokens=8)]


def test_key_value_cache_holds_what_was_written() -> None:
    cache, parts = KeyValueCache(1, 5), torch.randn(2, 1, 2, 5, 4)
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        keys, values = cache.update(*(each[:, :, start:stop] for each in parts), 0)
        cache.length = stop
    assert torch.equal(keys, parts[0])
    assert torch.equal(values, parts[1])


def changed(name: str, *path: str, value: Any) -> Callable[[Path], None]:
    """Sets one entry of a JSON file; None removes it."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / name).read_text())
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        (folder / name).write_text(json.dumps(whole))

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("config.json", "model_type", value="internlm2"),
        changed("config.json", "quantization_config", value={"quant_method": "ixc"}),
        changed("config.json", "text_config", "hidden_size", value="32"),
        changed("config.json", "text_config", "hidden_size", value=None),
        changed("config.json", "text_config", "num_key_value_heads", value=0),
        changed("config.json", "text_config", "rope_parameters", "rope_type", value="dynamic"),
        changed("config.json", "vision_config", "hidden_act", value="relu"),
        changed("config.json", "image_token_id", value=101),
        changed("config.json", "newline", value=False),
        changed("generation_config.json", "repetition_penalty", value=1.5),
        changed("generation_config.json", "num_beams", value=3),
        changed("generation_config.json", "max_new_tokens", value="many"),
        changed("processor_config.json", "tokens_per_side", value=11),
        changed("processor_config.json", "image_processor", "hd", value=0),
        changed("processor_config.json", "more", value=1),
        changed("tokenizer_config.json", "split_special_tokens", value=False),
        changed("tokenizer_config.json", "clean_up_tokenization_spaces", value=True),
        changed("tokenizer_config.json", "eos_token", value="a"),
        changed("tokenizer_config.json", "add_prefix_space", value=True),
        lambda folder: (folder / "generation_config.json").unlink(),
        lambda folder: (folder / "tokenizer.model").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors"),
    ],
)
def test_open_folder_declines_what_it_does_not_know(
    tiny_folder: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    assert open_folder(folder) is not None
    change(folder)
    assert open_folder(folder) is None


def test_open_folder_declines_large_weights(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixc.inference.standalone.MAX_WEIGHTS_BYTES", 1000)
    assert open_folder(tiny_folder) is None


def test_load_declines_other_weights(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    for other in ({"more": torch.zeros(1)}, {"output.weight": torch.zeros(127, 32)}):
        save_file(weights | other, folder / "model.safetensors")
        found = open_folder(folder)
        assert found is not None
        assert not found.load(device="cpu")


def test_load_declines_a_gpu(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = open_folder(tiny_folder)
    assert found is not None
    assert not found.load(device="auto")
