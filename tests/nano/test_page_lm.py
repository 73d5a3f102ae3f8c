"""Stage 2: characters of pages, regions, questions found in their lines, tokens, a run that learns and resumes."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano.tiny_pdf import PROSE, write

from ixc.core.token_layout import num_image_tokens
from ixc.errors import DataError, UsageError, WeightsError
from ixc.model.configuration import IxcTextConfig, IxcVisionConfig
from ixc.nano import page_lm_pipeline, state
from ixc.nano.config import PackageSplit, PagesRecipe
from ixc.nano.data.alphabet import CLASSES, OTHER, classes_of, text_of
from ixc.nano.data.empty_pictures import empty_picture
from ixc.nano.data.page_files import page_numbers
from ixc.nano.data.page_folder import FolderConfig, write_pages
from ixc.nano.data.page_questions import ABSENT, FINDERS, PHRASINGS, Line, ask_page, keys_and_words, values
from ixc.nano.data.page_text import (
    PageText,
    cut_region,
    drawn_page_text,
    read_page_text,
    scaled,
    with_random_letters,
)
from ixc.nano.data.pdf_sources import find_documents
from ixc.nano.data.slot_tokens import SLOTS, SlotEmbedding, class_ids, misread, region_tokens
from ixc.nano.data.window_shards import ShardConfig
from ixc.nano.loop import LoopConfig
from ixc.nano.stages.page_lm import (
    GridStage,
    PageLm,
    PageLmConfig,
    PageLmTask,
    draw_grid,
    empty_region,
    questions,
    transcriptions,
)
from ixc.processing.tokenization import CHARACTER_VOCABULARY, PAGE_VOCABULARY, character_tokenizer
from ixc.synth.page_sampling import compose

TEXT = IxcTextConfig(
    hidden_size=64,
    intermediate_size=96,
    num_attention_heads=2,
    num_key_value_heads=2,
    num_hidden_layers=2,
    vocab_size=len(PAGE_VOCABULARY),
    plora_r=2,
    plora_alpha=2,
    plora_qkv_r=2,
    plora_qkv_alpha=2,
)
CONFIG = PageLmConfig(grids=(GridStage(grid=(1, 1), images=2),), longest=40, questions=3)
LOOP = LoopConfig(steps=6, decay_from=4, warmup=2, bf16=False, save_seconds=0.0)
RECIPE = PagesRecipe(
    packages=PackageSplit(train={"manual": "1"}, test={}),
    vision=IxcVisionConfig(hidden_size=32, num_attention_heads=1, num_hidden_layers=1),
    init_from=None,
    shards=ShardConfig(seed=1),
    loop=LOOP,
    text=TEXT,
    reading=LOOP,
    page_lm=CONFIG,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a tiny document."""
    folder = tmp_path_factory.mktemp("cache")
    write(folder / "manual" / "one.pdf")
    list(write_pages(find_documents([folder / "manual"]), folder / "train", FolderConfig(pages_per_document=2)))
    return folder


@pytest.fixture(scope="module")
def page(cache: Path) -> PageText:
    path = next((cache / "train").glob("documents/*.zip"))
    return read_page_text(path, page_numbers(path)[0])


def set_in_lines(*strings: str, size: float = 20.0) -> PageText:
    """A page of lines in a typewriter face; a tab begins a cell 8 em further right."""
    classes, x, y, word, line = [], [], [], [], []
    words = lines = 0
    for row, string in enumerate(strings):
        at = 0.0
        for cell in string.split("\t"):
            for part in cell.split(" "):
                for letter in part:
                    classes.append(int(classes_of(np.array([ord(letter)]))[0]))
                    x.append(at + 0.3 * size)
                    y.append((row + 1) * 1.4 * size)
                    word.append(words)
                    line.append(lines)
                    at += 0.6 * size
                words, at = words + 1, at + 0.6 * size
            lines, at = lines + 1, at + 8 * size
    count = len(classes)
    return PageText(
        classes=np.array(classes),
        x=np.array(x, np.float32),
        y=np.array(y, np.float32),
        size=np.full(count, size, np.float32),
        word=np.array(word),
        line=np.array(line),
        block=np.zeros(count, np.int64),
        width=900,
        height=round(1.4 * size * (len(strings) + 1)),
        source="test",
    )


def test_read_page_text_has_the_lines_of_the_document(page: PageText) -> None:
    assert [line.text for line in page.lines][1:] == PROSE
    assert all(line.left < line.right <= page.width for line in page.lines)


def test_drawn_page_text_has_the_texts_of_the_page() -> None:
    drawn = compose(11, kind="form", hd=4)
    found = drawn_page_text(drawn)
    assert [line.text for line in found.lines] == [" ".join(text.string.split()) for text in drawn.texts]


def test_cut_region_holds_what_lies_inside_at_the_size_asked_for(page: PageText) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        region = cut_region(page, rng, grid=(1, 2), em=(18, 19))
        assert 0.2 * 336 - 1 <= region.height <= 336
        assert 1.2 * 336 - 1 <= region.width <= 2 * 336
        assert ((region.x >= 0) & (region.x < region.width) & (region.y < region.height)).all()
        assert region.size.min() <= 19.1


def test_with_random_letters_keeps_kinds_and_places(page: PageText) -> None:
    other = with_random_letters(page, np.random.default_rng(0))
    assert (other.classes != page.classes).mean() > 0.5
    for a, b in zip(text_of(page.classes), text_of(other.classes), strict=True):
        assert (a.isdigit(), a.isupper(), a.islower()) == (b.isdigit(), b.isupper(), b.islower())


def test_ask_page_answers_stand_on_the_page() -> None:
    asked_about = set_in_lines(
        "Order of June", "Customer: Ada Lovelace", "Total:\t641.57", "The quick brown fox", "jumps over", "Page 4"
    )
    rng = np.random.default_rng(0)
    asked = ask_page(asked_about, rng, 300, elsewhere=["IBAN"])
    whole = " ".join(line.text for line in asked_about.lines)
    assert {one.kind for one in asked} == {"line", "next", "previous", "value", "first_line", "last_line", "yes_no"}
    assert all(one.answer in (ABSENT, "yes", "no") or one.answer in whole for one in asked)
    absent = [one for one in asked if "iban" in one.question.lower()]
    assert {one.answer for one in absent} == {ABSENT, "no"}
    assert {answer for _, answer in values(asked_about.lines)} == {"Ada Lovelace", "641.57"}


def test_ask_page_title_is_the_largest_line() -> None:
    small, large = set_in_lines("one", "two and", "three words here", "four"), set_in_lines("Great News", size=40)
    lines = [*large.lines, *(replace(line, y=line.y + 100) for line in small.lines)]
    assert FINDERS["title"](lines) == [("", "Great News")]
    assert FINDERS["title"](list(small.lines)) == []


def test_ask_page_does_not_ask_about_what_occurs_twice() -> None:
    lines = set_in_lines("Date: 1 May", "Date: 2 May", "red red blue").lines
    assert values(lines) == []
    assert ("red", "red") not in FINDERS["next"](lines)
    assert isinstance(lines[0], Line)


def test_keys_and_words_name_keys() -> None:
    assert "Customer" in keys_and_words(set_in_lines("Customer: Ada", "thing"))


def test_phrasings_of_values_are_twenty() -> None:
    assert len(set(PHRASINGS["value"])) == 20


def test_region_tokens_have_the_models_layout_and_every_character() -> None:
    shown = set_in_lines("Total: 641.57", "Gräfin €5")
    tokens = region_tokens(replace(shown, width=900, height=400), hd=9)
    assert len(tokens.special) == num_image_tokens(2, 3)
    local = tokens.classes[num_image_tokens(2, 3) - 24 * 37 :]
    assert sorted(local[local > 0].tolist()) == sorted(shown.classes.tolist())


def test_region_tokens_leave_out_what_is_illegible() -> None:
    tokens = region_tokens(scaled(set_in_lines("Total"), 0.2), hd=1)
    assert not tokens.classes.any()


def test_slot_embedding_tells_characters_and_slots_apart() -> None:
    torch.manual_seed(0)
    embedding, table = SlotEmbedding(256), torch.randn(len(PAGE_VOCABULARY), 256) / 16
    classes = torch.zeros(1, 3, SLOTS, dtype=torch.long)
    classes[0, 0, 0], classes[0, 1, 5], classes[0, 2, 5] = 10, 10, OTHER
    a, b, c = embedding(classes, torch.zeros(1, 3, dtype=torch.long), table)[0]
    assert torch.allclose(a.norm(), b.norm(), atol=1e-4)
    assert not torch.allclose(a, b, atol=0.1)
    assert torch.allclose(a @ embedding.rotations[0].T, table[class_ids()[10]], atol=1e-4)
    assert not torch.allclose(b, c, atol=0.1)


def test_misread_changes_the_share_and_no_empty_slot() -> None:
    classes = np.tile(np.array([0, 5]), 5000)
    found = misread(classes, np.random.default_rng(0), share=0.2)
    assert not found[::2].any()
    assert 0.17 < (found[1::2] != 5).mean() < 0.23


def test_page_vocabulary_begins_with_the_embedded_models() -> None:
    assert PAGE_VOCABULARY[: len(CHARACTER_VOCABULARY)] == CHARACTER_VOCABULARY
    tokenizer = character_tokenizer(PAGE_VOCABULARY)
    ids = tokenizer.encode("Größe: 5 €\nÉtude", add_special_tokens=False)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "Größe: 5 €\nÉtude"
    assert len(class_ids()) == CLASSES


def test_draw_grid_has_begun() -> None:
    grids = (GridStage(grid=(1, 1), images=2), GridStage(grid=(2, 2), images=1, since=10))
    rng = np.random.default_rng(0)
    assert {draw_grid(rng, grids, 9).grid for _ in range(20)} == {(1, 1)}
    assert {draw_grid(rng, grids, 10).grid for _ in range(20)} == {(1, 1), (2, 2)}


def test_page_lm_task_learns(cache: Path) -> None:
    task = PageLmTask(CONFIG, [cache / "train"], PageLm(TEXT, seed=1))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    losses = []
    for number in range(30):
        result = task.step(number)
        result.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(result.loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_page_lm_task_goes_on_behind_earlier_runs(cache: Path) -> None:
    model = PageLm(TEXT, seed=1)
    later = PageLmTask(replace(CONFIG, first=3), [cache / "train"], model)
    assert later.step(4).loss.item() == PageLmTask(CONFIG, [cache / "train"], model).step(7).loss.item()


def test_page_lm_task_needs_pages_and_a_vocabulary(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="0 pages in"):
        PageLmTask(CONFIG, [tmp_path], PageLm(TEXT))
    with pytest.raises(DataError, match="a vocabulary of 128"):
        PageLmTask(CONFIG, [cache / "train"], PageLm(IxcTextConfig(**{**TEXT.to_dict(), "vocab_size": 128})))


def test_run_page_lm_resumes_to_the_same_weights_and_is_kept(cache: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        (folder / "train").symlink_to(cache / "train")
    one = page_lm_pipeline.run_page_lm(RECIPE, None, whole)

    def stop(report: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    page_lm_pipeline.run_page_lm(RECIPE, None, cut, watch=stop)
    saved = state.load(cut / "run" / "page_lm.pt")
    assert saved is not None
    assert saved["run"]["step"] == 1
    two = page_lm_pipeline.run_page_lm(RECIPE, None, cut)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    page_lm_pipeline.keep_page_lm(RECIPE, cut, tmp_path / "kept")
    again = page_lm_pipeline.build_page_lm(RECIPE, tmp_path / "kept")
    for a, b in zip(two.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


def test_build_page_lm_begins_from_a_shallower_decoder(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    import ixc

    shipped = Path(ixc.__file__).parent / "pretrained" / "nano"
    deep = IxcTextConfig(**{**TEXT.to_dict(), **WIDE})
    model = page_lm_pipeline.build_page_lm(replace(RECIPE, text=deep), shipped)
    table = model.decoder.tok_embeddings.weight
    given = load_file(shipped / "model.safetensors")["model.tok_embeddings.weight"].float()
    torch.testing.assert_close(table[: len(given)], given)
    with pytest.raises(WeightsError, match="holds no fitting language model"):
        page_lm_pipeline.build_page_lm(RECIPE, shipped)
    with pytest.raises(UsageError, match="no language model"):
        page_lm_pipeline.build_page_lm(replace(RECIPE, text=None), None)


WIDE = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_hidden_layers": 7,
    "head_dim": 32,
    "plora_r": 8,
    "plora_qkv_r": 8,
}
"""Of the shipped language model, one layer deeper."""


@pytest.mark.parametrize("transcription", [0.0, 1.0])
def test_page_lm_task_learns_that_an_empty_image_answers_nothing(cache: Path, transcription: float) -> None:
    config = replace(CONFIG, empty=1.0, transcription=transcription)
    task = PageLmTask(config, [cache / "train"], PageLm(TEXT))
    assert task.step(0).examples == 2
    rng, stage = np.random.default_rng(0), CONFIG.grids[0]
    make = transcriptions if transcription else questions
    regions, asked = make(lambda: empty_region(stage, rng), config, stage, rng)
    assert {len(region) for region in regions} == {0}
    answers = {one.answer for each in asked for one in each}
    assert answers == {ABSENT}


def test_empty_picture_has_the_size_and_every_kind() -> None:
    pictures = [empty_picture(90, 40, np.random.default_rng(seed)) for seed in range(12)]
    assert {(one.shape, one.dtype) for one in pictures} == {((40, 90, 3), np.dtype(np.uint8))}
    deviations = [float(one.std(axis=(0, 1)).mean()) for one in pictures]
    assert min(deviations) == 0
    assert max(deviations) > 20
