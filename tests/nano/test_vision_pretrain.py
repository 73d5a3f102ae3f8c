"""Stage 1: labels of patches, shards, an encoder doubled in width, a run that a kill does not change."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano.tiny_pdf import write

from ixc.errors import DataError, UsageError, WeightsError
from ixc.model.configuration import IxcVisionConfig
from ixc.model.vision import VisionTower
from ixc.nano import pipeline, state
from ixc.nano.config import PackageSplit, PagesRecipe
from ixc.nano.data.alphabet import CLASSES, text_of
from ixc.nano.data.page_folder import FolderConfig, write_pages
from ixc.nano.data.pdf_sources import find_documents
from ixc.nano.data.text_images import TextImageConfig, draw_text_window, find_fonts
from ixc.nano.data.window_shards import COUNT, ShardConfig, page_paths, read_shard, write_shards
from ixc.nano.data.windows import IGNORED, SIDE, window_labels
from ixc.nano.growth import doubled_encoder
from ixc.nano.loop import LoopConfig
from ixc.nano.stages.vision_pretrain import VisionPretrain, VisionPretrainConfig, character_loss, quarter_batch
from ixc.runlog.jsonl import read
from ixc.synth import fonts as synth_fonts

VISION = IxcVisionConfig(
    hidden_size=32, intermediate_size=64, num_attention_heads=1, num_hidden_layers=1, image_size=336, patch_size=14
)
LOOP = LoopConfig(steps=6, decay_from=4, warmup=2, bf16=False, save_seconds=0.0)
RECIPE = PagesRecipe(
    packages=PackageSplit(train={}, test={}),
    vision=VISION,
    init_from=None,
    shards=ShardConfig(seed=1, drawn=0.1),
    loop=LOOP,
    windows=1,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of windows of a tiny document and of drawn text."""
    folder = tmp_path_factory.mktemp("cache")
    write(folder / "manual" / "one.pdf")
    list(write_pages(find_documents([folder / "manual"]), folder / "train", FolderConfig(pages_per_document=2)))
    fonts = find_fonts((Path(synth_fonts.__file__).with_name("fonts"),))
    assert list(write_shards(folder / "shards", [folder / "train"], fonts, RECIPE.shards, count=1)) == [0]
    assert list(write_shards(folder / "shards", [folder / "train"], fonts, RECIPE.shards, count=1)) == []
    return folder / "shards"


def test_window_labels_in_reading_order_with_the_surplus_left_out() -> None:
    classes = np.array([5, 6, 7, 8, 9, 4, IGNORED])
    x = np.array([1, 3, 5, 7, 9, 15, 40], float)
    y = np.array([5, 5, 5, 5, 5, 20, 5], float)
    labels, places = window_labels(classes, x, y, side=42)
    assert labels[0].tolist() == [5, 6, 7, 8]
    assert labels[4].tolist() == [4, 0, 0, 0]
    assert labels[2].tolist() == [IGNORED] * 4
    assert places.tolist() == [0, 1, 2, 3, -1, 16, 8]
    assert (labels > 0).sum() == 5


def test_window_labels_leave_out_what_is_outside() -> None:
    labels, places = window_labels(np.array([1, 2]), np.array([-1.0, 400.0]), np.array([5.0, 5.0]))
    assert not labels.any()
    assert places.tolist() == [-1, -1]


def test_read_shard_gives_windows_with_their_characters(shards: Path) -> None:
    windows = read_shard(shards / "00000.npz")
    assert len(windows) == COUNT
    sources = [window.source for window in windows]
    assert sources.count("drawn") == round(COUNT * 0.1)
    page = next(w for w in windows if w.source == "manual" and len(w.classes) > 60)
    assert page.picture.shape[:2] == (SIDE, SIDE)
    assert any(word in text_of(page.classes) for word in ("quick", "lazy", "third", "seen"))
    with pytest.raises(DataError, match="0 pages"):
        page_paths([shards])


def test_read_shard_refuses_a_torn_file(tmp_path: Path, shards: Path) -> None:
    torn = tmp_path / "00000.npz"
    torn.write_bytes((shards / "00000.npz").read_bytes()[:1000])
    with pytest.raises(DataError, match="no shard"):
        read_shard(torn)


def test_draw_text_window_puts_ink_at_its_characters() -> None:
    fonts = find_fonts((Path(synth_fonts.__file__).with_name("fonts"),))
    config = TextImageConfig(sizes=(24, 24), coloured=0, inverted=0, mixed=0)
    window = draw_text_window(np.random.default_rng(3), fonts, config)
    grey = window.picture.min(-1).astype(int)
    inside = (window.x > 10) & (window.x < SIDE - 10) & (window.y > 10) & (window.y < SIDE - 10)
    contrast = [
        np.ptp(grey[int(y) - 9 : int(y) + 10, int(x) - 5 : int(x) + 6])
        for x, y in zip(window.x[inside], window.y[inside], strict=True)
    ]
    assert np.mean(np.array(contrast) > 60) > 0.95


def test_find_fonts_skips_held_out_families_and_needs_some(tmp_path: Path) -> None:
    found = {p.name for p in find_fonts((Path(synth_fonts.__file__).with_name("fonts"),))}
    assert "LiberationMono.ttf" in found
    assert not found & {"Play.ttf", "Sora.otf", "Hack.ttf", "GentiumBook.ttf", "Carlito-Regular.ttf"}
    with pytest.raises(UsageError, match="0 fonts"):
        find_fonts((tmp_path,))


def test_character_loss_asks_nothing_of_ignored_patches() -> None:
    labels = torch.tensor([[[3, 0, 0, 0], [IGNORED] * 4]])
    logits = torch.zeros(1, 2, 4, CLASSES, requires_grad=True)
    loss, named = character_loss(logits, labels, blank=0.3, sparse=3.0)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].abs().sum() == 0
    assert logits.grad[0, 0].abs().sum() > 0
    assert named == 0.0


def test_quarter_batch_depends_on_the_step_alone(shards: Path) -> None:
    config = VisionPretrainConfig(shards=shards, windows=2)
    a, b, other = (quarter_batch(config, step) for step in (7, 7, 8))
    assert a[0].shape == (8, 3, 168, 168)
    assert a[2].shape == (8, 144, 4)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], other[0])


def test_quarter_batch_needs_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 shards"):
        quarter_batch(VisionPretrainConfig(shards=tmp_path), 0)


def test_doubled_encoder_computes_the_same() -> None:
    torch.manual_seed(0)
    small = VisionTower(VISION)
    wide = dict(VISION.to_dict(), hidden_size=64, intermediate_size=128, num_attention_heads=2)
    large = VisionTower(IxcVisionConfig(**{k: wide[k] for k in VISION.to_dict() if k in wide and k != "model_type"}))
    large.load_state_dict(doubled_encoder(small.state_dict(), seed=1))
    pixels = torch.randn(1, 3, 336, 336)
    with torch.no_grad():
        a, b = small(pixels), large(pixels)
    torch.testing.assert_close(torch.cat([a, a], -1), b, rtol=1e-4, atol=1e-5)
    weight = large.encoder.layers[0].mlp.fc1.weight
    assert not torch.allclose(weight[:, :32], weight[:, 32:]), "equal halves would learn the same"


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    saved = state.load(path / "vision_pretrain.pt")
    assert saved is not None
    return saved["model"]


def test_train_gives_the_same_weights_after_a_stop(shards: Path, tmp_path: Path) -> None:
    pipeline.run(RECIPE, shards, tmp_path / "whole")
    pipeline.run(replace(RECIPE, loop=replace(LOOP, steps=3, decay_from=3)), shards, tmp_path / "cut")
    halves = replace(RECIPE, loop=replace(LOOP, decay_from=6))
    pipeline.run(halves, shards, tmp_path / "cut")
    pipeline.run(halves, shards, tmp_path / "again")
    assert [line["step"] for line in read(tmp_path / "cut" / "vision_pretrain.jsonl")] == [1, 2, 3, 4, 5, 6]
    whole, cut = weights_of(tmp_path / "again"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_keep_writes_weights_that_a_run_begins_from(shards: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "train").mkdir(parents=True)
    pipeline.run(RECIPE, shards, cache / "run")
    for _ in range(2):  # the second replaces what the first noted of the same run
        pipeline.keep(RECIPE, cache, tmp_path / "kept")
    (noted,) = json.loads((tmp_path / "kept" / "training.json").read_text())["runs"]
    assert noted["steps"] == 6
    assert 0 <= noted["running_means"]["characters"] <= 1
    begun = pipeline.build_classifier(replace(RECIPE, init_from=tmp_path / "kept"))
    averaged, counts = pipeline.averaged(RECIPE, cache / "run" / "vision_pretrain.pt")
    assert counts["step"] == 6
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    with pytest.raises(WeightsError, match="no fitting vision encoder"):
        pipeline.build_classifier(replace(RECIPE, init_from=tmp_path))


def test_keep_adds_a_run_that_goes_on_from_what_is_kept(shards: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "train").mkdir(parents=True)
        start = tmp_path / "kept" if name == "second" else None
        pipeline.run(replace(RECIPE, init_from=start), shards, tmp_path / name / "run")
        began = tmp_path / name / "run" / "began.json"
        begun = json.loads(began.read_text())
        assert begun["earlier_steps"] == (6 if start else 0), "windows go on behind those of the run before"
        began.write_text(json.dumps(begun | {"began": name}))  # clocks count whole seconds
        pipeline.keep(RECIPE, tmp_path / name, tmp_path / "kept")
    noted = json.loads((tmp_path / "kept" / "training.json").read_text())["runs"]
    assert [(one["began"], one["init_from"]) for one in noted] == [("first", ""), ("second", "kept")]


def test_note_start_counts_the_steps_of_earlier_runs_of_the_stage(tmp_path: Path) -> None:
    runs = [{"steps": 5}, {"steps": 7, "stage": "page_lm"}, {"steps": 11, "stage": "vision_pretrain"}]
    (tmp_path / "training.json").write_text(json.dumps({"runs": runs}))
    assert pipeline.note_start(tmp_path / "run", "vision_pretrain", tmp_path) == 16
    assert pipeline.note_start(tmp_path / "run", "page_lm", tmp_path) == 7
    (tmp_path / "training.json").write_text(json.dumps({"runs": [*runs, *runs]}))
    assert pipeline.note_start(tmp_path / "run", "page_lm", tmp_path) == 7, "a run that has begun goes on as it began"
    assert pipeline.note_start(tmp_path / "new", "page_lm", None) == 0


def test_run_takes_its_windows_behind_earlier_runs(shards: Path) -> None:
    config = VisionPretrainConfig(shards=shards, windows=4)
    task = VisionPretrain(replace(config, first=3), pipeline.build_classifier(RECIPE))
    seen: list[torch.Tensor] = []
    task.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    task.step(4)
    torch.testing.assert_close(seen[0], quarter_batch(config, 7)[0])


SCRIPT = """
import sys
from pathlib import Path
from nano.test_vision_pretrain import RECIPE, pipeline
from dataclasses import replace
recipe = replace(RECIPE, loop=replace(RECIPE.loop, steps=40, decay_from=40))
pipeline.run(recipe, Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_train_gives_the_same_weights_after_kills(shards: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(shards)]
    path = [str(Path(__file__).parents[1]), *sys.path]
    environment = {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1", "PATH": ""}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)
    kills = 0
    while True:
        process = subprocess.Popen([*command, str(tmp_path / "cut")], env=environment)
        log, seen = (
            tmp_path / "cut" / "vision_pretrain.jsonl",
            len(list(read(tmp_path / "cut" / "vision_pretrain.jsonl"))),
        )
        while process.poll() is None and len(list(read(log))) < seen + 12:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 1
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    steps = [line["step"] for line in read(log)]
    assert steps == list(range(1, 41))
