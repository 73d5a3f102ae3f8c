"""Glyph tokens, question packing, initialisation and losses of the training on drawn pages, at a tiny size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ixc.core.token_layout import num_image_tokens
from ixc.errors import DataError, UsageError
from ixc.model.configuration import IxcTextConfig
from ixc.nano import state
from ixc.nano.data.character_images import CharacterImageConfig
from ixc.nano.data.curriculum import CURRICULUM, stage_page
from ixc.nano.data.glyph_tokens import RANKS, GlyphTokenEmbedding, glyph_grid, page_glyph_tokens, ranks
from ixc.nano.data.question_packing import PackedSpan, attend_packed, encode, markup, pack
from ixc.nano.drawn_config import read_recipe
from ixc.nano.losses.answers import answer_logits
from ixc.nano.optim import orthogonalise
from ixc.nano.stages.character_pretrain import DrawnCharacterClassifier, window_batch
from ixc.nano.stages.joint import Joint
from ixc.nano.stages.layout_lm import LayoutLm
from ixc.nano.stages.ocr_alignment import OcrAligner, OcrAlignmentConfig, character_loss, windows
from ixc.processing.processing import IxcProcessor
from ixc.synth.page import SPACE, DrawnPage
from ixc.synth.page_sampling import HELD_OUT, compose

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = Path(__file__).with_name("tiny_recipe.py")


def tiny_text() -> IxcTextConfig:
    return read_recipe(TINY).model.text_config


def test_ranks_count_within_groups() -> None:
    assert ranks(np.array([3, 3, 1, 3, 1])).tolist() == [0, 1, 0, 2, 1]


def test_glyph_grid_puts_a_character_into_its_patch() -> None:
    codes, x, y = np.array([5, 6, 7]), np.array([30.0, 45.0, 50.0]), np.array([10.0, 10.0, 10.0])
    chars, rows = glyph_grid(codes, x, y, rows=1, columns=2)
    assert chars[0, 1, 0] == 5  # column 28 to 42 is the left patch of the second token
    assert chars[0, 1, RANKS : RANKS + 2].tolist() == [6, 7]
    assert rows[0, 1].tolist() == [True, False]
    assert not chars[0, 0].any()


@pytest.mark.parametrize("hd", [1, 4, 9])
def test_page_glyph_tokens_follow_the_layout(hd: int) -> None:
    page = compose(HELD_OUT + 3, hd=hd)
    from ixc.core.tiling import partition

    place = partition(page.width, page.height, hd=hd, rule="native")
    glyph_tokens = page_glyph_tokens(page, hd=hd)
    assert len(glyph_tokens.special) == num_image_tokens(place.grid_h, place.grid_w)
    drawn = sum(len(t.string) for t in page.texts)
    local = glyph_tokens.chars[num_image_tokens(1, 1) - 156 :]
    assert (local > 0).sum() >= 0.97 * drawn  # three characters a patch is the most that is told


def test_stage_page_has_questions() -> None:
    for stage in CURRICULUM:
        drawn = [stage_page(number, stage) for number in range(8)]
        assert sum(bool(page.questions) for page, _ in drawn) >= 6
        assert all((glyph_tokens.chars <= SPACE).all() for _, glyph_tokens in drawn)


def test_pack_equals_questions_asked_alone() -> None:
    torch.manual_seed(0)
    decoder = LayoutLm(tiny_text(), seed=0).decoder
    torch.nn.init.normal_(decoder.layers[0].attention.wo.base.weight, std=0.1)
    page = compose(HELD_OUT + 1, kind="form", hd=1)
    image = torch.randn(1, 20, decoder.config.hidden_size)
    questions = page.questions[:3]
    prefix = len(markup()[0]) + 20
    together = answer_logits(decoder, image, pack([questions], prefix=prefix))[0].unflatten(0, (3, -1))
    for i, q in enumerate(questions):
        packed = pack([[q]], prefix=prefix)
        alone = answer_logits(decoder, image, packed)[0]
        assert torch.allclose(together[i, : len(alone)], alone, atol=1e-5)  # sums in another order


@pytest.mark.parametrize("questions", [0, 1, 5])
def test_attend_packed_equals_masked_attention(questions: int) -> None:
    torch.manual_seed(1)
    prefix, length = 13, 7
    query, key, value = torch.randn(3, 2, 4, prefix + questions * length, 8).unbind()
    mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    group = torch.arange(questions).repeat_interleave(length)
    mask[prefix:, prefix:] &= group[:, None] == group
    packing = PackedSpan(prefix, questions)
    found, _ = attend_packed(torch.nn.Module(), query, key, value, None, scaling=0.3, packing=packing)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(found, wanted.transpose(1, 2))


def test_markup_equals_the_processors_prompt() -> None:
    from ixc.core import chat_format
    from ixc.processing.image_processing import IxcImageProcessorPil
    from ixc.processing.tokenization import character_tokenizer

    processor = IxcProcessor(IxcImageProcessorPil(hd=1), character_tokenizer(), published_quirks=False, system="")
    picture = np.full((336, 336, 3), 255, np.uint8)
    said = processor.encode([chat_format.Message("user", (chat_format.Image(picture), "What is the Total?"))])[
        "input_ids"
    ][0].tolist()
    start, between, _ = markup()
    image = [processor.image_token_id] * num_image_tokens(1, 1)
    assert said == [*start, *image, *encode("What is the Total?"), *between]


def test_orthogonalise_singular_values() -> None:
    made = orthogonalise(torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(1)))
    singular = torch.linalg.svdvals(made)
    assert singular.min() > 0.5
    assert singular.max() < 1.3


def test_window_batch_shapes_and_labels() -> None:
    pixels, places, labels = window_batch(np.random.default_rng(0), 2)
    assert pixels.shape == (8, 3, 168, 168)
    assert places.shape == (8, 144)
    assert places.max() < 576
    assert labels.shape == (8, 144, RANKS)
    assert (labels[:, :, 0] > 0).float().mean() > 0.1


def test_drawn_character_classifier_starts_whitened() -> None:
    classifier = DrawnCharacterClassifier(read_recipe(TINY).model.vision_config, seed=0)
    pixels, places, _ = window_batch(np.random.default_rng(0), 1)
    patches = classifier.tower.embeddings(pixels, places)[:, 1:]
    assert patches.std(dim=(0, 1)).min() > 0.05  # whitened: no channel is silent


@pytest.mark.parametrize("length", [2.8, 1.0])
def test_character_loss_reads_glyph_tokens(length: float) -> None:
    """The readout of the OCR alignment undoes `GlyphTokenEmbedding`, up to the crosstalk of six places in one vector.

    Args:
        length: of the embeddings: of the embedded model's, and as they begin.
    """
    torch.manual_seed(0)
    embedding, table = GlyphTokenEmbedding(128), torch.randn(128, 128) * length / 128**0.5
    page = page_glyph_tokens(compose(HELD_OUT + 2, kind="form", hd=1), hd=1)
    chars, rows, special = (torch.from_numpy(a)[None] for a in (page.chars, page.rows, page.special))
    shown = embedding(chars, rows, special, table, noise=0.0)[0]
    place = special[0] == 0
    loss, right = character_loss(shown[place], chars[0][place], embedding, table, blank=0.3)
    assert right > 0.95  # crosstalk of six places in one vector of 128
    wrong, _ = character_loss(shown[place].roll(1, 0), chars[0][place], embedding, table, blank=0.3)
    assert wrong > 3 * loss


def test_character_loss_ignores_tokens_of_weight_zero() -> None:
    torch.manual_seed(0)
    embedding, table = GlyphTokenEmbedding(128), torch.randn(128, 128)
    shown, chars = torch.randn(8, 128), torch.randint(1, SPACE, (8, 2 * RANKS))
    some = torch.tensor([1.0, 0.0]).repeat(4)
    all_of_some, _ = character_loss(shown[::2], chars[::2], embedding, table, blank=0.3)
    weighed, _ = character_loss(shown, chars, embedding, table, blank=0.3, weight=some)
    assert weighed.item() == pytest.approx(all_of_some.item(), rel=1e-5)


def test_windows_lie_on_whole_tokens() -> None:
    recipe = OcrAlignmentConfig(images=2, overviews=1.0, pages=0.0)
    pixels, places, chars, rows = windows(np.random.default_rng(0), recipe)
    assert pixels.shape == (8, 3, 168, 168)
    assert (places[:, 0] % 24 % 2 == 0).all()
    assert (places[:, 0] // 24 % 2 == 0).all()
    assert chars.shape == (8, 36, 2 * RANKS)
    assert rows.shape == (8, 36, 2)


def test_ocr_aligner_distils_from_its_features_at_the_start() -> None:
    """Tokens move less from where they were, though their letters are taught the same."""

    def moved(weight: float) -> float:
        plan = read_recipe(TINY)
        joint = Joint(plan.model, plan.joint, Path("unused"))
        recipe = replace(plan.ocr_alignment, feature_distill_weight=weight, glyph_mse_weight=0.0)
        aligner = OcrAligner(joint.model, joint.glyph_tokens, recipe)
        pixels, places, _, _ = windows(np.random.default_rng(5), recipe)
        inner = joint.model.model
        with torch.no_grad():
            before = aligner.encode(inner.vision_tower, inner.vision_proj, pixels, places)
        for number in range(recipe.steps):
            aligner.step(number)
        with torch.no_grad():
            after = aligner.encode(inner.vision_tower, inner.vision_proj, pixels, places)
        return ((after - before).square().sum() / before.square().sum()).item()

    assert 0 < moved(1e3) < 0.5 * moved(1e-9)


def test_ocr_aligner_weights_sparse_windows() -> None:
    plan = read_recipe(TINY)
    lost = []
    for sparse in (1.0, 6.0):
        torch.manual_seed(0)
        joint = Joint(plan.model, plan.joint, Path("unused"))
        large = replace(
            plan.ocr_alignment,
            sparse=sparse,
            pages=0.0,
            overviews=0.0,
            text_images=CharacterImageConfig(sizes=(90, 92, 96)),
        )
        lost.append(OcrAligner(joint.model, joint.glyph_tokens, large).step(0)[0])
    assert lost[1] != pytest.approx(lost[0], rel=1e-3)


def test_load_refuses_a_torn_state(tmp_path: Path) -> None:
    path = tmp_path / "layout_lm.pt"
    state.save({"step": 1}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"layout_lm\.pt is not a whole training state"):
        state.load(path)


def test_read_recipe_refuses_other_files(tmp_path: Path) -> None:
    assert read_recipe(RECIPES / "nano.py").model.vision_config.image_size == 336
    more = read_recipe(RECIPES / "nano_more.py")
    assert more.init_from is not None
    assert (more.init_from / "model.safetensors").is_file()
    with pytest.raises(UsageError, match="no recipe"):
        read_recipe(tmp_path / "none.py")
    other = tmp_path / "other.py"
    other.write_text("def recipe():\n    return 3\n")
    with pytest.raises(UsageError, match="gives int"):
        read_recipe(other)


def test_run_never_overwrites_an_earlier_run(tmp_path: Path) -> None:
    from ixc.nano.drawn_pipeline import run

    (tmp_path / "layout_lm.pt").write_bytes(b"something")
    with pytest.raises(UsageError, match="add --resume"):
        run(TINY, out=tmp_path)
    assert (tmp_path / "layout_lm.pt").read_bytes() == b"something"


def test_page_glyph_tokens_of_an_empty_page() -> None:
    page = DrawnPage(kind="form", width=100, height=100, font="Lato")
    assert not page_glyph_tokens(page, hd=1).chars.any()
