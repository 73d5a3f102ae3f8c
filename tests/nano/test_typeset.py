"""Pages set by Typst: text without a list of nouns, documents that compile, questions that their pages answer."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import DataError
from ixc.nano.data.page_questions import ABSENT, ask_page
from ixc.nano.data.page_text import Known, cut_region, draw_place, folder_places, page_places, read_page_text
from ixc.nano.data.typeset.blocks import literal, table
from ixc.nano.data.typeset.charts import CHARTS, compose_chart
from ixc.nano.data.typeset.documents import KINDS, compose_document
from ixc.nano.data.typeset.folder import TypesetConfig, Typesetter, text_of_pages, write_typeset
from ixc.nano.data.typeset.text import TextSource
from ixc.nano.data.typeset.values import FIELDS, any_value

TEXT = TextSource()


@pytest.fixture(scope="module")
def typesetter() -> Typesetter:
    return Typesetter()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, typesetter: Typesetter) -> Path:
    out = tmp_path_factory.mktemp("typeset")
    list(write_typeset(out, 2, TypesetConfig(documents=8), typesetter=typesetter, text=TEXT))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_compose_document_sets_every_kind(kind: str, typesetter: Typesetter) -> None:
    for seed in range(4):
        document = compose_document(np.random.default_rng(seed), TEXT, typesetter.families, kind=kind)
        assert typesetter.set(document).startswith(b"%PDF")
        assert document.known


def test_compose_document_asks_for_fields_that_it_lacks() -> None:
    document = compose_document(np.random.default_rng(5), TEXT, ["Carlito"], kind="article")
    missing = [fact for fact in document.known if fact.answer == ABSENT]
    assert missing
    assert all(not fact.needs for fact in missing)


@pytest.mark.parametrize("kind", KINDS)
def test_compose_document_calls_no_field_absent_that_it_shows(kind: str) -> None:
    for seed in range(30):
        document = compose_document(np.random.default_rng(seed), TEXT, ["Carlito"], kind=kind)
        missing = {fact.question for fact in document.known if fact.answer == ABSENT}
        for field in FIELDS.values():
            shown = any(fact.question in field.asked and fact.needs for fact in document.known)
            assert not (shown and missing & {*field.asked}), (kind, seed, missing)


def test_write_typeset_pages_hold_most_of_what_is_asked(folder: Path) -> None:
    shown = asked = 0
    for path, number in page_places(folder):
        page = read_page_text(path, number)
        whole = "\n".join(line.text for line in page.lines)
        facts = [fact for fact in page.known if fact.needs]
        shown += sum(all(part in whole for part in fact.needs) for fact in facts)
        asked += len(facts)
    assert asked > 100
    assert shown > 0.6 * asked  # the others stand on another page, or run over two lines


def test_write_typeset_goes_on_and_repeats_itself(folder: Path, typesetter: Typesetter, tmp_path: Path) -> None:
    config = TypesetConfig(documents=8)
    assert len(list(write_typeset(tmp_path, 1, config, typesetter=typesetter, text=TEXT))) == 1
    assert len(list(write_typeset(tmp_path, 2, config, typesetter=typesetter, text=TEXT))) == 1
    for place, other in zip(page_places(folder), page_places(tmp_path), strict=True):
        first, second = read_page_text(*place), read_page_text(*other)
        assert np.array_equal(first.x, second.x)
        assert first.known == second.known
    with pytest.raises(DataError, match="other settings"):
        list(write_typeset(tmp_path, 1, TypesetConfig(seed=1), typesetter=typesetter, text=TEXT))


def test_ask_page_asks_what_a_region_shows(folder: Path) -> None:
    rng = np.random.default_rng(2)
    found = 0
    for path, number in page_places(folder)[:8]:
        region = cut_region(read_page_text(path, number), rng, grid=(1, 1), em=(12.0, 20.0))
        whole = "\n".join(line.text for line in region.lines)
        for asked in ask_page(region, rng, 5, kinds=("known",)):
            assert asked.answer == ABSENT or asked.answer in whole
            found += 1
    assert found


def test_text_source_has_words_that_no_list_holds() -> None:
    rng = np.random.default_rng(0)
    made = [TEXT.invented(rng) for _ in range(200)]
    known = {word.lower() for word in TEXT.known}
    assert sum(word not in known for word in made) > 150
    assert len(set(made)) > 150


def test_text_source_leaves_lines_in_other_scripts_out() -> None:
    source = TextSource(["Привет всем", "Zürich ist eine Stadt am See"])
    assert "Zürich" in source.known
    assert not any("П" in word for word in source.known)


def test_any_value_is_open() -> None:
    rng = np.random.default_rng(0)
    assert len({any_value(rng, TEXT) for _ in range(300)}) > 270
    assert all(field.value(rng, TEXT) for field in FIELDS.values())


def test_literal_is_no_markup(typesetter: Typesetter) -> None:
    assert literal('a "b" \\ *c*') == '"a \\"b\\" \\\\ *c*"'


def test_table_asks_for_cells() -> None:
    block = table(np.random.default_rng(0), TEXT, columns=["Item", "Price"], rows=[["Tea", "2.50"]])
    assert block.known == (Known(question=block.known[0].question, answer="2.50", needs=("Price", "Tea", "2.50")),)


def test_draw_place_takes_folders_equally(folder: Path) -> None:
    places = [page_places(folder)[:1], page_places(folder)[1:]]
    rng = np.random.default_rng(0)
    share = sum(draw_place(places, rng) in places[0] for _ in range(400)) / 400
    assert 0.4 < share < 0.6


def test_folder_places_needs_a_folder() -> None:
    with pytest.raises(DataError, match="0 folders of pages"):
        folder_places([])


def test_text_of_pages_are_the_words_of_a_folder(folder: Path) -> None:
    assert len(text_of_pages(folder).known) > 50


def test_typeset_command_writes_a_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "typeset", "--out", str(tmp_path / "set"), "-n", "16"])
    assert result.exit_code == 0, result.output
    assert "pages new" in result.output
    assert page_places(tmp_path / "set")


@pytest.mark.parametrize("kind", CHARTS)
def test_compose_chart_shows_what_it_is_asked(kind: str) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")
    shown = asked = 0
    for seed in range(8):
        chart = compose_chart(np.random.default_rng(seed), TEXT, kind=kind)
        text = pypdfium2.PdfDocument(chart.pdf)[0].get_textpage().get_text_range()
        assert compose_chart(np.random.default_rng(seed), TEXT, kind=kind).pdf == chart.pdf
        for fact in chart.known:
            if fact.needs:
                asked += 1
                shown += all(part in text for part in fact.needs)
            else:
                assert fact.answer == ABSENT
    assert asked > 3
    assert shown == asked


def test_compose_chart_leaves_out_a_font_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    for seed in range(4):
        assert compose_chart(np.random.default_rng(seed), TEXT, [tmp_path / "broken.ttf"]).pdf.startswith(b"%PDF")


def test_write_typeset_draws_charts(tmp_path: Path, typesetter: Typesetter) -> None:
    list(write_typeset(tmp_path, 1, TypesetConfig(documents=6, charts=1.0), typesetter=typesetter, text=TEXT))
    pages = [read_page_text(path, number) for path, number in page_places(tmp_path)]
    assert len(pages) >= 4
    assert sum(len(page.known) for page in pages) > 8
