"""Which files of a model folder vLLM reads: those of our own loader, whatever lies beside them."""

from __future__ import annotations

import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ixc.errors import WeightsError
from ixc.inference.model_folder import EMBEDDED
from ixc.model.checkpoint_files import weight_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not here; see dev/vllm_cpu.sh"),
]


def read_by_vllm(folder: Path) -> list[str]:
    """Names of all tensors that vLLM's loader hands to our model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM 0.32 imports parts of torch 2.13 that are deprecated
        from vllm.config.load import LoadConfig
        from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

        from ixc.serving.vllm.model import IxcForVllm

    model = torch.nn.Module()
    IxcForVllm._choose_files(model, str(folder))  # type: ignore[arg-type]
    loader = DefaultModelLoader(LoadConfig(use_tqdm_on_load=False))
    config = SimpleNamespace(model=str(folder), revision=None)
    return [name for name, _ in loader.get_all_weights(config, model)]  # type: ignore[arg-type]


def test_weight_patterns_of_the_embedded_model() -> None:
    assert sorted(read_by_vllm(EMBEDDED)) == sorted(load_file(EMBEDDED / "model.safetensors"))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("pickled", [False, True])
def test_weight_patterns_leave_foreign_files_out(tmp_path: Path, shards: int, pickled: bool) -> None:
    """Left-overs of training in the model's folder, as versions before 29 November 2026 wrote them."""
    folder, tensors = tmp_path / "model", load_file(EMBEDDED / "model.safetensors")
    folder.mkdir()
    shutil.copy(EMBEDDED / "config.json", folder)
    stem, ending, save = ("pytorch_model", "bin", torch.save) if pickled else ("model", "safetensors", save_file)
    names, index = sorted(tensors), {}
    for number in range(shards):
        name = f"{stem}.{ending}" if shards == 1 else f"{stem}-{number + 1:05d}-of-{shards:05d}.{ending}"
        part = {key: tensors[key] for key in names[number::shards]}
        save(part, folder / name)
        index |= dict.fromkeys(part, name)
    if shards > 1:
        (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": index}))
    save({"marks": torch.ones(2)}, folder / f"symbols.{ending}")
    save({"marks": torch.ones(2)}, folder / f"a.{ending}")
    assert len(weight_files(folder)) == shards
    assert sorted(read_by_vllm(folder)) == names


def test_weight_patterns_of_a_folder_without_weights(tmp_path: Path) -> None:
    save_file({"marks": torch.ones(2)}, tmp_path / "symbols.safetensors")
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        read_by_vllm(tmp_path)
