"""Stage 3: pixels of regions, the readout of characters, the fit of the projector, a run that learns and exports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano.test_page_lm import LOOP, RECIPE, TEXT, set_in_lines
from nano.tiny_pdf import write
from PIL import Image, ImageDraw

import ixc
from ixc.errors import UsageError, WeightsError
from ixc.model.configuration import IxcVisionConfig
from ixc.nano import page_reading_pipeline, pipeline
from ixc.nano.config import PagesRecipe
from ixc.nano.data.page_folder import FolderConfig, write_pages
from ixc.nano.data.page_text import RegionBox, cut, cut_picture, cut_region, draw_region_box, page_places
from ixc.nano.data.pdf_sources import find_documents
from ixc.nano.data.slot_tokens import NOTHING, SlotEmbedding, region_tokens, slot_loss
from ixc.nano.loop import train
from ixc.nano.pipeline import CharacterClassifier
from ixc.nano.stages.page_lm import GridStage, PageLm, PageLmConfig
from ixc.nano.stages.page_reading import PageReadingConfig, PageReadingTask, ProjectorFit, draw_view, fit_projector
from ixc.processing.tokenization import PAGE_VOCABULARY

VISION = IxcVisionConfig(
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=1,
    num_hidden_layers=1,
    image_size=336,
    patch_size=14,
    hidden_act="quick_gelu",
)
GRID = GridStage(grid=(1, 1), images=1)
CONFIG = PageReadingConfig(
    grids=(GRID,),
    asked=PageLmConfig(grids=(GRID,), longest=30, questions=2),
    fit=ProjectorFit(regions=2, steps=4, tokens=64),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a tiny document, and the weights of stages 1 and 2."""
    folder = tmp_path_factory.mktemp("cache")
    write(folder / "manual" / "one.pdf")
    list(write_pages(find_documents([folder / "manual"]), folder / "train", FolderConfig(pages_per_document=2)))
    pipeline.save_weights(CharacterClassifier(VISION), folder / "kept" / "encoder.safetensors")
    pipeline.save_weights(PageLm(TEXT), folder / "kept" / "page_lm.safetensors")
    return folder


@pytest.fixture
def recipe() -> PagesRecipe:
    return replace(RECIPE, vision=VISION, joint=replace(LOOP, steps=3), page_reading=CONFIG)


def test_cut_picture_shows_what_the_characters_of_the_region_say() -> None:
    page = set_in_lines("Hamburg", "Lyon", size=24.0)
    picture = np.full((page.height, page.width), 255, np.uint8)
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    for x, y in zip(page.x, page.y, strict=True):
        pen.rectangle((x - 4, y - 4, x + 4, y + 4), fill=0)
    for seed in range(20):
        box = draw_region_box(page, np.random.default_rng(seed), grid=(1, 1), em=(14.0, 30.0))
        region, pixels = cut(page, box), cut_picture(np.asarray(drawn), box)
        assert pixels.shape == (box.height, box.width) == (region.height, region.width)
        for x, y in zip(region.x, region.y, strict=True):
            assert pixels[min(int(y), box.height - 1), min(int(x), box.width - 1)] < 100


def test_cut_picture_is_white_beyond_the_page() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    pixels = cut_picture(picture, RegionBox(factor=1.0, left=-10.0, top=-5.0, width=60, height=40))
    assert pixels[0, 0].tolist() == pixels[-1, -1].tolist() == [255, 255, 255]
    assert pixels[15, 20].tolist() == [0, 0, 0]


def test_cut_region_is_the_text_of_the_box() -> None:
    page = set_in_lines("Invoice 12", "Total 641.57")
    region = cut_region(page, np.random.default_rng(3), grid=(1, 1), em=(18.0, 22.0))
    box = draw_region_box(page, np.random.default_rng(3), grid=(1, 1), em=(18.0, 22.0))
    assert np.array_equal(region.x, cut(page, box).x)
    assert (region.width, region.height) == (box.width, box.height)


def test_draw_region_box_enlarges_no_more_than_it_may() -> None:
    page = set_in_lines("small type", size=10.0)
    rng = np.random.default_rng(0)
    boxes = [draw_region_box(page, rng, grid=(1, 1), em=(8.0, 40.0), largest=1.25) for _ in range(50)]
    assert max(box.factor for box in boxes) == 1.25 > min(box.factor for box in boxes)


def test_readout_names_the_characters_of_tokens() -> None:
    torch.manual_seed(0)
    embedding, table = SlotEmbedding(256), torch.randn(len(PAGE_VOCABULARY), 256) / 16
    tokens = region_tokens(set_in_lines("Hamburg 12", "Total 641.57"), hd=4)
    classes, special = torch.from_numpy(tokens.classes)[None], torch.from_numpy(tokens.special)[None]
    shown = embedding(classes, special, table)
    loss, named = slot_loss(embedding.readout(shown[special == 0], table), classes[special == 0], blank=0.3)
    assert named == 1.0
    assert loss < 0.6
    wrong = torch.where(classes == NOTHING, NOTHING, (classes % 90) + 1)
    assert slot_loss(embedding.readout(shown[special == 0], table), wrong[special == 0], blank=0.3)[1] < 0.1


def test_draw_view_gives_pixels_of_its_region(cache: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        view = draw_view(CONFIG, [page_places(cache / "train")], GRID, rng)
        assert view.picture.shape == (view.text.height, view.text.width, 3)


def test_fit_projector_brings_the_tokens_nearer(cache: Path, recipe: PagesRecipe) -> None:
    found = []
    for steps in (0, 60):
        reader = page_reading_pipeline.build_reader(recipe)
        page_reading_pipeline.load_parts(reader, cache / "kept")
        config = replace(CONFIG, fit=ProjectorFit(regions=3, steps=steps, tokens=256))
        task = PageReadingTask(config, [cache / "train"], reader)
        fit_projector(task)
        inner = reader.model.model
        mark = inner.vision_proj(inner.plora_sub_GN.view(1, -1))[0]
        found.append((mark - reader.slot_tokens.special_embeddings[0]).square().sum().item())
    assert found[1] < 0.5 * found[0]


def test_run_page_reading_goes_on_as_an_unbroken_run_and_exports(
    cache: Path, tmp_path: Path, recipe: PagesRecipe
) -> None:
    home = tmp_path / "whole"
    for folder in (home, tmp_path / "broken"):
        folder.mkdir()
        (folder / "train").symlink_to(cache / "train")
    whole = page_reading_pipeline.run_page_reading(recipe, cache / "kept", home)
    first = replace(recipe, joint=replace(LOOP, steps=1, decay_from=recipe.joint.decay_from))  # type: ignore[union-attr]
    page_reading_pipeline.run_page_reading(first, cache / "kept", tmp_path / "broken")
    again = page_reading_pipeline.run_page_reading(recipe, cache / "kept", tmp_path / "broken")
    ours, theirs = again.state_dict(), whole.state_dict()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
    page_reading_pipeline.keep_page_reading(recipe, home, tmp_path / "kept")
    reader = page_reading_pipeline.build_reader(recipe)
    assert page_reading_pipeline.load_parts(reader, tmp_path / "kept")
    page_reading_pipeline.export_reader(recipe, home, tmp_path / "model")
    answer = ixc.load(tmp_path / "model").ask([Image.new("RGB", (300, 200), "white")], "What is the Total?")
    assert isinstance(answer.text, str)


def test_step_depends_on_its_number_alone(cache: Path, recipe: PagesRecipe) -> None:
    reader = page_reading_pipeline.build_reader(recipe)
    page_reading_pipeline.load_parts(reader, cache / "kept")
    task = PageReadingTask(CONFIG, [cache / "train"], reader)
    losses = [task.step(number).loss.item() for number in (4, 5, 4)]
    assert losses[0] == losses[2] != losses[1]
    later = PageReadingTask(replace(CONFIG, first=3), [cache / "train"], reader)
    assert later.step(1).loss.item() == losses[0], "data goes on behind earlier runs"


def test_train_lowers_the_loss(cache: Path, tmp_path: Path, recipe: PagesRecipe) -> None:
    reader = page_reading_pipeline.build_reader(recipe)
    page_reading_pipeline.load_parts(reader, cache / "kept")
    seen: list[float] = []
    task = PageReadingTask(CONFIG, [cache / "train"], reader)
    loop = replace(LOOP, steps=40, decay_from=40, muon_lr=0.02, adam_lr=3e-3)
    train(task, loop, tmp_path, watch=lambda report: seen.append(report.loss))
    assert np.mean(seen[-8:]) < 0.9 * np.mean(seen[:8])


def test_load_parts_refuses_a_folder_without_weights(tmp_path: Path, recipe: PagesRecipe) -> None:
    with pytest.raises(WeightsError, match="lacks weights of stages 1 and 2"):
        page_reading_pipeline.load_parts(page_reading_pipeline.build_reader(recipe), tmp_path)


def test_build_reader_refuses_a_recipe_without_the_stage() -> None:
    with pytest.raises(UsageError, match="no joint stage"):
        page_reading_pipeline.build_reader(RECIPE)
