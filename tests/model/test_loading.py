"""Folders of weights: every form loads, what is written reads back bit by bit, and nothing is invented."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parity.model_goldens import FOLDER, INFERENCE, inputs
from safetensors.torch import load_file, save_file

from ixc.errors import DataError, UsageError, WeightsError
from ixc.model.conversion import import_weights
from ixc.model.key_mapping import published_name
from ixc.model.loading import check, load, read_config
from ixc.model.modeling import IxcForConditionalGeneration

ORIGINAL = load_file(FOLDER / "model.safetensors")
POST_NORM = "vit.vision_tower.vision_model.post_layernorm.weight"
POSITIONS = "vit.vision_tower.vision_model.embeddings.position_ids"


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor] = ORIGINAL) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {published_name(key): value for key, value in model.state_dict().items()}


def folder_with(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder = tmp_path / "changed"
    folder.mkdir()
    shutil.copyfile(FOLDER / "config.json", folder / "config.json")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """The published form: two .bin shards, with the keys a loader should pass over."""
    folder = tmp_path / "published"
    folder.mkdir()
    shutil.copyfile(FOLDER / "config.json", folder / "config.json")
    (folder / "tokenizer.model").write_bytes(b"as it was")
    (folder / "modeling.py").write_text("raise SystemExit")
    keys = sorted(ORIGINAL)
    shards = ({key: ORIGINAL[key] for key in keys[:40]}, {key: ORIGINAL[key] for key in keys[40:]})
    shards[1][POSITIONS], shards[1][POST_NORM] = torch.arange(577)[None], torch.ones(64)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save(shard, folder / name)
        weight_map |= dict.fromkeys(shard, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_load_then_save_keeps_the_published_names(tmp_path: Path) -> None:
    load(FOLDER).save_pretrained(tmp_path / "saved")
    assert same(load_file(tmp_path / "saved" / "model.safetensors"))
    again = load(tmp_path / "saved")
    assert same(weights_of(again))
    again.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert same(weights_of(load(tmp_path / "shards")))


def test_modeling_fresh_model_is_saved_with_the_published_names(tmp_path: Path) -> None:
    IxcForConditionalGeneration(read_config(FOLDER)).save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == ORIGINAL.keys()


def test_load_pickled_shards(pickled: Path) -> None:
    assert same(weights_of(load(pickled)))
    assert same(weights_of(IxcForConditionalGeneration.from_pretrained(pickled)))


def test_import_weights(pickled: Path, tmp_path: Path) -> None:
    shards = []
    native = import_weights(pickled, tmp_path / "native", progress=lambda *counts: shards.append(counts))
    assert shards == [(1, 2), (2, 2)]
    assert sorted(path.name for path in native.iterdir()) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
    ]
    assert same(weights_of(load(native)))
    with pytest.raises(UsageError, match="name a new or an empty folder"):
        import_weights(pickled, native)


def test_import_weights_failure_leaves_nothing(pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    with pytest.raises(DataError, match="no space"):
        import_weights(pickled, tmp_path / "native", complete=full_disk)
    monkeypatch.setattr("ixc.model.conversion.save_file", full_disk)
    with pytest.raises(DataError, match="no space"):
        import_weights(pickled, tmp_path / "native")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize("read", [load, IxcForConditionalGeneration.from_pretrained])
def test_load_names_a_missing_key(tmp_path: Path, read: object) -> None:
    folder = folder_with(tmp_path, {key: value for key, value in ORIGINAL.items() if key != "vision_proj.0.weight"})
    with pytest.raises(WeightsError, match=r"1 missing \(vision_proj\.0\.weight\)"):
        read(folder)


@pytest.mark.parametrize("read", [load, IxcForConditionalGeneration.from_pretrained])
def test_load_names_a_surplus_key(tmp_path: Path, read: object) -> None:
    folder = folder_with(tmp_path, {**ORIGINAL, "vision_proj.4.weight": torch.ones(2), POST_NORM: torch.ones(64)})
    with pytest.raises(WeightsError, match=r"1 unexpected \(vision_proj\.4\.weight\)"):
        read(folder)


@pytest.mark.parametrize("read", [load, IxcForConditionalGeneration.from_pretrained])
def test_load_names_both_shapes(tmp_path: Path, read: object) -> None:
    folder = folder_with(tmp_path, {**ORIGINAL, "plora_glb_GN": torch.zeros(1, 1, 8)})
    with pytest.raises(WeightsError, match=r"plora_glb_GN is \(1, 1, 8\), not \(1, 1, 256\)"):
        read(folder)


@pytest.mark.parametrize("read", [load, IxcForConditionalGeneration.from_pretrained])
def test_load_truncated_file_is_one_line(tmp_path: Path, read: object) -> None:
    folder = folder_with(tmp_path, ORIGINAL)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged or cut off") as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_check_refuses_pickled_code(pickled: Path) -> None:
    torch.save({"plora_glb_GN": Path("not a tensor")}, pickled / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        check(pickled)


@pytest.mark.parametrize("content", [torch.ones(2), {"a": 3}])
def test_check_refuses_pickles_without_a_table(pickled: Path, content: object) -> None:
    torch.save(content, pickled / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(WeightsError, match="no table of named tensors"):
        check(pickled)


def test_load_missing_shard_and_missing_folder(pickled: Path, tmp_path: Path) -> None:
    (pickled / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(WeightsError, match="lacks 1 of 2 shards"):
        check(pickled)
    with pytest.raises(WeightsError, match=r"no config\.json"):
        check(tmp_path)


def test_load_stop_tokens_of_a_flat_folder() -> None:
    model = load(FOLDER)
    assert model.generation_config.eos_token_id == [2, 510]
    assert model.generation_config.max_length != 16384  # where prompts were cut, not how long an answer may be


def test_load_makes_no_buffers() -> None:
    # Buffers that are not saved come back as garbage after loading: there are none at all.
    assert not list(load(FOLDER).named_buffers())


AUTO = """
import sys, ixc
assert "torch" not in sys.modules and "transformers" not in sys.modules
{first}
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
config = AutoConfig.from_pretrained(sys.argv[1])
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1])
print(type(model).__module__, type(model).__name__, PROCESSOR_MAPPING[type(config)].__name__)
"""


@pytest.mark.parametrize("first", ["", "import ixc.model.vision, ixc.processing.processing"])
def test_auto_classes_need_only_import_ixc(first: str) -> None:
    command = [sys.executable, "-c", AUTO.format(first=first), str(FOLDER)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["ixc.model.modeling", "IxcForConditionalGeneration", "IxcProcessor"]


@pytest.mark.parametrize("model_type", ["internlm2", "internlm", "internlmxcomposer2", "ixc"])
def test_auto_classes_load_published_model_types(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoModelForImageTextToText

    folder = folder_with(tmp_path, ORIGINAL)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": model_type, "auto_map": {"x": "y.z"}}
    (folder / "config.json").write_text(json.dumps(config))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert same(weights_of(model))


def test_load_half_precision_round_trip(tmp_path: Path) -> None:
    model = load(FOLDER, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert load(tmp_path).dtype == torch.bfloat16
    assert same(load_file(tmp_path / "model.safetensors"), {key: v.bfloat16() for key, v in ORIGINAL.items()})
    with torch.no_grad():
        assert load(tmp_path)(**inputs(INFERENCE["square_1x1"])).logits.dtype == torch.float32
