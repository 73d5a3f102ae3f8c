"""Targets of attention supervision, relation targets, auxiliary probes and line copying."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ixc.core.chat_format import IGNORED
from ixc.core.tiling import partition
from ixc.errors import UsageError
from ixc.nano.attention_recorder import AttentionRecorder, attention_loss, relation_loss
from ixc.nano.data.glyph_tokens import SIDE, SPACE, page_glyph_tokens
from ixc.nano.data.line_copying import LONGEST, copying_tasks, questions_or_copying
from ixc.nano.data.question_packing import choose, encode, markup, pack, worth
from ixc.nano.drawn_config import read_recipe
from ixc.nano.losses.answers import AnswerObjective, answer_logits, answer_loss
from ixc.nano.losses.attention_supervision import NOT_COPIED, NOWHERE, AttentionSupervision, places_of, whole_words
from ixc.nano.losses.probes import ANSWERED, MIDDLE, NAMED, AuxiliaryProbes, amounts_of, counts_of
from ixc.nano.losses.relation_targets import LETTERS, begins_of, letters_of, relations_of
from ixc.synth.page import DrawnPage, PageQuestion, PlacedText
from ixc.synth.page_sampling import compose

TINY = Path(__file__).with_name("tiny_recipe.py")


@pytest.mark.parametrize("hd", [1, 4, 9])
@pytest.mark.parametrize("kind", ["form", "table", "infographic", "screen"])
def test_places_of_answer_copy_hold_the_letters(kind: str, hd: int) -> None:
    """By the glyph_tokens, which are made without it: every letter that is pointed at stands in its token."""
    seen = 0
    for number in range(6):
        page = compose(number, kind=kind, hd=hd)
        chars = page_glyph_tokens(page, hd=hd).chars
        for question, letters in zip(page.questions, places_of(page, page.questions, hd=hd), strict=True):
            if question.kind in NOT_COPIED:
                assert letters is None
                continue
            for letter, tokens in zip(question.answer, (letters or {}).values(), strict=False):
                code = SPACE if letter == " " else ord(letter) - 32
                for token in tokens:
                    if (chars[token] > 0).all():
                        continue  # more letters than a token has slots for
                    assert code in chars[token], (question, letter)
                    seen += 1
    assert seen > 20


def test_whole_words_finds_no_parts_of_words() -> None:
    assert whole_words("12 of 123, 12; a12", "12") == [0, 11]
    assert whole_words("Lot 7", "Lot 7") == [0]
    assert whole_words("none", "some") == []
    assert whole_words("anything", "") == []


def test_attention_loss_is_the_negative_log_attention() -> None:
    page = compose(3, kind="form", hd=1)
    page.texts, page.questions = (
        [PlacedText(string="Key: ab", x=30, y=60, size=26)],
        [PageQuestion(kind="value", question="Key?", answer="ab")],
    )
    places = places_of(page, page.questions, hd=1)
    assert places[0] is not None
    assert all(places[0].values())
    before, length = len(markup()[0]), 6
    given = torch.full((1, length, before + 313), 1e-9)
    firsts = torch.tensor([[2]])
    for k, tokens in places[0].items():
        given[0, 2 + k, [before + t for t in tokens]] = 0.5 / len(tokens)
    wanted = pytest.approx(np.log(2), abs=1e-3)
    assert attention_loss(given, [places], firsts).item() == wanted
    assert attention_loss(given, [[None]], firsts).item() == 0


def test_attention_loss_raises_attention_on_the_target() -> None:
    """Gradient steps on the look alone raise what the head gives to the answer."""
    from ixc.nano.data.curriculum import CURRICULUM, stage_page
    from ixc.nano.stages.layout_lm import LayoutLm

    torch.manual_seed(0)
    reader = LayoutLm(read_recipe(TINY).model.text_config, seed=1)
    page, glyph_tokens = stage_page(5, next(one for one in CURRICULUM if one.hd == 1))
    questions = [q for q in page.questions if q.kind not in NOT_COPIED][:4]
    optim = torch.optim.Adam(reader.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        image = reader.embed_image([glyph_tokens], noise=0.0)
        packed = pack([questions], prefix=len(markup()[0]) + image.shape[1])
        recorder = AttentionRecorder(attention_supervision=(AttentionSupervision(layer=0, head=1, weight=1.0),))
        answer_logits(reader.decoder, image, packed, recorder=recorder)
        loss = recorder.loss([page], [questions], packed.firsts, hd=1)
        loss.backward()
        optim.step()
        optim.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_choose_repeats_no_question_before_all_were_asked() -> None:
    page = compose(11, kind="bars", hd=4)
    count = len(page.questions)
    drawn = choose(np.random.default_rng(0), page.questions, 2 * count, known={})
    assert sorted(q.question for q in drawn[:count]) == sorted(q.question for q in page.questions)
    assert sorted(q.question for q in drawn[count:]) == sorted(q.question for q in page.questions)


def test_choose_prefers_half_known_kinds() -> None:
    questions = [PageQuestion(kind=kind, question=f"{kind}?", answer="1") for kind in ("known", "half", "never")]
    rng, known = np.random.default_rng(0), {"known": 1.0, "half": 0.5}
    drawn = [choose(rng, questions, 1, known=known)[0] for _ in range(3000)]
    shares = {kind: sum(q.kind == kind for q in drawn) / 3000 for kind in ("known", "half", "never")}
    total = worth(1.0) + worth(0.5) + worth(0.0)
    assert shares == pytest.approx({"known": 0.12 / total, "half": 0.72 / total, "never": 0.32 / total}, abs=0.03)


def test_places_of_queried_word() -> None:
    page = compose(3, kind="form", hd=1)
    page.texts = [
        PlacedText(string="Blue Lamp", x=30, y=60, size=26),
        PlacedText(string="Total 7", x=30, y=200, size=26),
    ]
    asked = [
        PageQuestion(kind="where", question="Where is Lamp?", answer="top"),
        PageQuestion(kind="yes_no", question="Is Total in the image?", answer="yes"),
        PageQuestion(kind="yes_no", question="Is Chair in the image?", answer="no"),
        PageQuestion(kind="yes_no", question="Is Oslo larger than Rome?", answer="no"),
        PageQuestion(kind="value", question="What is the Total?", answer="7"),
    ]
    lamp, total, chair, larger, value = places_of(page, asked, hd=1, target="queried_word")
    chars = page_glyph_tokens(page, hd=1).chars
    for word, places in (("Lamp", lamp), ("Total", total)):
        assert places is not None
        weight = {int(c) for token in places[0] for c in chars[token] if c}
        assert {ord(c) - 32 for c in word} <= weight
    assert len(lamp or []) == len("top")
    assert chair == {0: [NOWHERE], 1: [NOWHERE]}
    assert larger is None
    assert value is None
    given = torch.zeros(1, 4, 60)
    given[0, 1:3, 0] = 0.25  # to the first token, from the two places that tell `no`
    assert attention_loss(given, [[chair]], torch.tensor([[1]])).item() == pytest.approx(np.log(4), abs=1e-4)


def test_places_of_query_word_copy_in_questions() -> None:
    """From its third letter on, at the token that tells what comes behind that letter."""
    page = compose(3, kind="form", hd=1)
    page.texts = [PlacedText(string="Invoice Lamp", x=30, y=60, size=26)]
    asked = [
        PageQuestion(kind="where", question="Where is Lamp?", answer="top"),
        PageQuestion(kind="where", question="Where is Chair?", answer="top"),
    ]
    lamp, chair = places_of(page, asked, hd=1, target="query_word_copy")
    assert chair is None
    assert lamp is not None
    chars = page_glyph_tokens(page, hd=1).chars
    packed = pack([asked], prefix=len(markup()[0]) + 313)
    for (back, tokens), letter in zip(sorted(lamp.items()), "mp", strict=True):
        assert packed.ids[0, int(packed.firsts[0, 0]) + back].item() == encode(letter)[0]
        assert all(ord(letter) - 32 in chars[token] for token in tokens)


def amounts() -> DrawnPage:
    """Two bars."""
    page = compose(3, kind="form", hd=1)
    page.texts = [
        PlacedText(string=string, x=x, y=y, size=26)
        for string, x, y in (("Oslo", 20, 60), ("Rome", 20, 120), ("31", 200, 60), ("87", 250, 120))
    ]
    page.questions = [
        PageQuestion(kind="bar", question="What is the value of Oslo?", answer="31"),
        PageQuestion(kind="bar", question="What is the value of Rome?", answer="87"),
        PageQuestion(kind="largest", question="Which bar is the largest?", answer="Rome"),
    ]
    return page


def test_places_of_compared_values() -> None:
    page = amounts()
    question = PageQuestion(kind="larger", question="Is Oslo larger than Rome?", answer="no")
    (places,) = places_of(page, [question], hd=1, target="compared_values")
    assert places is not None
    packed = pack([[question]], prefix=len(markup()[0]) + 313)
    first = int(packed.firsts[0, 0])
    read = {packed.ids[0, first + back].item(): letters_in(page, tokens) for back, tokens in places.items()}
    assert read[encode("o")[0]] == "1" * 2  # the last figure's token, of overview and tile
    assert read[encode("e")[0]] == read[encode("?")[0]] == "7" * 2
    assert places_of(page, page.questions, hd=1, target="compared_values") == [None, None, None]


def test_places_of_value_owner_after_its_value() -> None:
    page = amounts()
    page.texts = [
        PlacedText(string=string, x=x, y=y, size=26)
        for string, x, y in (("31", 20, 60), ("87", 200, 60), ("Oslo", 20, 120), ("Rome", 200, 120))
    ]
    whose = PageQuestion(kind="whose", question="Which bar is 87?", answer="Rome")
    (places,) = places_of(page, [whose], hd=1, target="value_owner")
    assert places is not None
    assert letters_in(page, places[0]) == "me" * 2  # the token of its last letter, of overview and tile


def letters_in(page: DrawnPage, tokens: Iterable[int]) -> str:
    """The letters that stand in image tokens, in order."""
    chars = page_glyph_tokens(page, hd=1).chars
    return "".join(chr(int(c) + 32) for token in sorted(tokens) for c in chars[token] if c)


def test_places_of_value_owner_before_its_value() -> None:
    page = amounts()
    *_, largest = places_of(page, page.questions, hd=1, target="value_owner")
    assert largest is not None
    assert len(largest) == len("Rome")
    assert set(letters_in(page, largest[0])) == {"7"}  # the last figure knows the whole


def test_places_of_query_word_copy_in_answers() -> None:
    """Behind every letter of an answer from the third on: the token that holds that letter."""
    page = amounts()
    page.texts.append(PlacedText(string="Harbour", x=20, y=200, size=26))
    asked = [PageQuestion(kind="value", question="Port?", answer="Harbour")]
    (places,) = places_of(page, asked, hd=1, target="query_word_copy")
    assert places is not None
    packed = pack([asked], prefix=len(markup()[0]) + 313)
    for (back, tokens), letter in zip(sorted(places.items()), "rbour", strict=True):
        assert packed.ids[0, int(packed.firsts[0, 0]) + back].item() == encode(letter)[0]
        assert letter in letters_in(page, tokens)


def test_relations_of_values_and_names() -> None:
    page = amounts()
    links = relations_of(page, hd=1)
    assert links["column_header"] == {}
    linked = {letters_in(page, [token]): letters_in(page, earlier) for token, earlier in links["row_key"].items()}
    assert {letter for token in linked for letter in token} == set("3187")
    for token, name in linked.items():
        assert set(name) <= set("Oslo") if set(token) <= set("31") else set(name) <= set("Rome")


def test_begins_of_values_and_their_probes() -> None:
    page = amounts()
    told, headings = begins_of(page, hd=1)
    assert headings == {}
    assert {"".join(chr(code + 32) for code in letters) for letters in told.values()} == {"Oslo", "Rome"}
    for token, letters in told.items():
        assert set(letters_in(page, [token])) <= set("31" if chr(letters[0] + 32) == "O" else "87")
    probes = zeroed(AuxiliaryProbes(8, head=4, layer=0, weight=1.0))
    hidden = torch.zeros(1, 313, 8)
    without, known, carried = (
        probes.loss([hidden] * layers, [page], hd=1, image=313, carried=carried).item()
        for layers, carried in ((1, None), (2, None), (2, torch.zeros(1, 313, 4)))
    )
    assert known - without == pytest.approx(NAMED * (np.log(SPACE + 1) + np.log(10)), abs=1e-4)  # letters and figures
    assert carried - known == pytest.approx(ANSWERED * np.log(SPACE + 1), abs=1e-4)
    assert LETTERS == 4
    with torch.no_grad():
        probes.figures.bias[0] = 30.0  # no hundreds, in the first of three places
    figured = probes.loss([hidden] * 2, [page], hd=1, image=313).item()
    assert known - figured == pytest.approx(NAMED * np.log(10) / 3, abs=1e-4)


def zeroed(probes: AuxiliaryProbes) -> AuxiliaryProbes:
    """Probes whose parameters are all zero."""
    with torch.no_grad():
        for parameter in probes.parameters():
            parameter.zero_()
    return probes


@pytest.mark.parametrize("kind", ["bars", "pie", "curve"])
def test_auxiliary_probes_predict_answers_at_questions(kind: str) -> None:
    """The letters of an answer are told where a question answers, of the questions that are led there by no word."""
    page = compose(11, kind=kind, hd=4)
    asked = [q for q in page.questions if q.kind in ("largest", "count")]
    count = len(page_glyph_tokens(page, hd=4).special)
    packed = pack([asked], prefix=count)
    hidden = torch.zeros(1, count + packed.ids.shape[1], 8)
    rows = packed.labels[0] != IGNORED
    for i, question in enumerate(asked):
        start = i * len(rows) // len(asked) + int(packed.firsts[0, i])
        assert rows[start : start + len(question.answer)].all()
        hidden[0, count + start : count + start + len(question.answer), 0] = 1.0 if question.kind == "count" else -1.0
    probes = zeroed(AuxiliaryProbes(8, head=4, layer=0, weight=1.0))
    arguments = {"hd": 4, "image": count, "asked": [asked], "firsts": packed.firsts}
    unsure = probes.loss([hidden] * 3, [page], **arguments).item()
    with torch.no_grad():
        for question in asked:
            sign = 1.0 if question.kind == "count" else -1.0
            for place, code in enumerate(letters_of(question.answer)):
                probes.answers.weight[place * (SPACE + 1) + code, 0] += 9.0 * sign
    sure = probes.loss([hidden] * 3, [page], **arguments).item()
    assert unsure - sure == pytest.approx(ANSWERED * np.log(SPACE + 1), rel=1e-2)  # the answers' letters and no other


def test_nano_config_refuses_probes_after_the_last_layers() -> None:
    plan = read_recipe(TINY)
    with pytest.raises(UsageError, match="probes after layer 0 read layers up to 2, and the language model has 0 to 0"):
        replace(plan, joint=replace(plan.joint, probes=(0, 1.0)))


def test_letters_of_pads_short_names() -> None:
    assert letters_of("Oslo") == [ord(letter) - 32 for letter in "Oslo"]
    assert letters_of("A b") == [ord("A") - 32, SPACE, ord("b") - 32, 0]


def test_places_of_queried_word_for_counts() -> None:
    page = compose(11, kind="invoice", hd=4)
    (question,) = (q for q in page.questions if q.kind == "count")
    (places,) = places_of(page, [question], hd=4, target="queried_word")
    assert places is not None
    numbers = counts_of(page, hd=4)
    assert {numbers[token] for tokens in places.values() for token in tokens} == {int(question.answer)}
    page.counted.clear()
    assert places_of(page, [question], hd=4, target="queried_word") == [None]


def test_auxiliary_probes_always_have_gradients() -> None:
    """A page without pairs too."""
    page = compose(3, kind="form", hd=1)
    page.texts, page.questions = [], []
    page.counted = []
    probes = AuxiliaryProbes(8, head=4, layer=0, weight=1.0)
    hidden, firsts = torch.zeros(1, 320, 8), torch.zeros(1, 1, dtype=torch.long)
    questions = [[PageQuestion(kind="yes_no", question="Is Oslo in the image?", answer="no")]]
    carried = torch.zeros(1, 313, 4)
    probes.loss([hidden] * 3, [page], hd=1, image=313, asked=questions, firsts=firsts, carried=carried).backward()
    assert all(parameter.grad is not None for parameter in probes.parameters())


def test_relations_of_cells() -> None:
    page = compose(3, kind="form", hd=1)
    page.texts = [
        PlacedText(string=string, x=x, y=y, size=26)
        for string, x, y in (("Price", 200, 60), ("Lamp", 20, 120), ("7.50", 200, 120))
    ]
    page.questions = [PageQuestion(kind="cell", question="What is the Price of Lamp?", answer="7.50")]
    links = relations_of(page, hd=1)
    assert {letters_in(page, earlier) for earlier in links["row_key"].values()} == {"Lamp"}
    assert {letters_in(page, earlier) for earlier in links["column_header"].values()} == {"Price"}
    rows, heads = set(links["row_key"]), set(links["column_header"])
    assert rows == heads == set(links["key_start"])
    for begins in links["key_start"].values():  # of the row's name and of the heading, in tiles or in the overview
        assert sorted(letters_in(page, [token])[0] for token in begins) == ["L", "P"]
    assert set(letters_in(page, rows)) == set("7.50")
    begins, headings = begins_of(page, hd=1)
    assert begins == dict.fromkeys(rows, letters_of("Lamp"))
    assert headings == dict.fromkeys(rows, letters_of("Price"))


def test_relations_of_leaves_out_repeated_words() -> None:
    page = amounts()
    page.texts.append(PlacedText(string="Rome", x=20, y=200, size=26))
    names = {letters_in(page, earlier) for earlier in relations_of(page, hd=1)["row_key"].values()}
    assert names == {"Oslo"}


def test_relation_loss_is_the_negative_log_attention() -> None:
    """Of equal keys every earlier token gets the same."""
    before = len(markup()[0])
    query = key = torch.zeros(1, before + 20, 8)
    assert relation_loss(query, key, [{9: {3, 5}}]).item() == pytest.approx(np.log((before + 10) / 2), abs=1e-5)
    assert relation_loss(query, key, [{}]).item() == 0


def test_answer_loss_trains_relations_and_probes() -> None:
    from ixc.nano.data.curriculum import CURRICULUM, stage_page
    from ixc.nano.stages.layout_lm import LayoutLm

    torch.manual_seed(0)
    reader = LayoutLm(read_recipe(TINY).model.text_config, seed=1)
    page, glyph_tokens = stage_page(5, next(one for one in CURRICULUM if one.hd == 1))
    probes = AuxiliaryProbes(
        reader.decoder.config.hidden_size, head=reader.decoder.config.head_dim, layer=0, weight=1.0
    )
    attention_supervision = (AttentionSupervision(layer=0, head=0, weight=1.0, target="row_key"),)
    optim = torch.optim.Adam([*reader.parameters(), *probes.parameters()], lr=1e-2)
    losses = []
    for _ in range(12):
        image = reader.embed_image([glyph_tokens], noise=0.0)
        (_, away), _, _ = answer_loss(
            reader.decoder,
            image,
            [page],
            [page.questions[:2]],
            AnswerObjective(hd=1, attention_supervision=attention_supervision, probes=probes),
        )
        away.backward()
        optim.step()
        optim.zero_grad()
        losses.append(away.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("extra", [False, True])
def test_questions_or_copying_asks_extra_questions(extra: bool) -> None:
    page = compose(11, kind="bars", hd=4)
    (asked,), _ = questions_or_copying(np.random.default_rng(0), [page], 200, copying=False, known=[None], extra=extra)
    assert any(question.kind == "larger" for question in asked) == extra


def test_answer_loss_has_no_targets_after_a_bare_key() -> None:
    from ixc.nano.stages.layout_lm import LayoutLm

    page = compose(7, kind="form", hd=1)
    reader = LayoutLm(read_recipe(TINY).model.text_config, seed=1)
    image = reader.embed_image([page_glyph_tokens(page, hd=1)], noise=0.0)
    attention_supervision = (AttentionSupervision(layer=0, head=0, weight=1.0),)
    away = {
        form: answer_loss(
            reader.decoder,
            image,
            [page],
            [page.questions[-2:]],
            AnswerObjective(hd=1, attention_supervision=attention_supervision, form=form),
        )[0][1]
        for form in ("turn", "key")
    }
    assert away["turn"] > 0
    assert away["key"] == 0


def test_auxiliary_probes_predict_positions() -> None:
    page = compose(7, kind="form", hd=4)
    glyph_tokens = page_glyph_tokens(page, hd=4)
    probes, count = zeroed(AuxiliaryProbes(8, head=4, layer=0, weight=2.0)), len(glyph_tokens.special)
    loss = probes.loss([torch.zeros(1, count, 8)], [page], hd=4, image=count).item()
    place = partition(page.width, page.height, hd=4, rule="native")
    views = ((SIDE, SIDE), (SIDE * place.grid_h, SIDE * place.grid_w))
    squares = []
    for rows, columns in views:
        before = np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)
        squares += list((np.linspace(-1, 1, columns) ** 2 + np.log((before + SIDE) / SIDE**2) ** 2).flat)
    assert len(glyph_tokens.special) - (glyph_tokens.special > 0).sum() == len(squares)
    assert loss == pytest.approx(np.mean(squares), rel=1e-4)  # weight 2, mean of two numbers
    rows, columns = views[1]
    asking = probes.loss([torch.zeros(1, count + 5, 8)], [page], hd=4, image=count).item()
    assert (asking - loss) / 2 == pytest.approx(np.log((rows * (columns + 1) + SIDE) / SIDE**2) ** 2, rel=1e-4)


def test_counts_of_numbers_in_reading_order() -> None:
    page = compose(11, kind="lines", hd=4)
    assert len(page.counted) == int(next(q.answer for q in page.questions if q.kind == "count"))
    numbers = counts_of(page, hd=4)
    assert set(numbers.values()) == set(range(1, len(page.counted) + 1))
    assert [numbers[token] for token in sorted(numbers)] == sorted(numbers.values())
    chars = page_glyph_tokens(page, hd=4).chars
    for number, line in enumerate(page.counted, start=1):
        weight = "".join(
            chr(int(c) + 32) for token in sorted(numbers) if numbers[token] == number for c in chars[token] if c
        )
        assert set(line.replace(" ", "")) <= set(weight)


def last_figure(chars: np.ndarray, amount: int) -> bool:
    """Whether a token holds it."""
    return ord(str(amount)[-1]) - ord(" ") in chars


@pytest.mark.parametrize("kind", ["bars", "pie", "curve"])
def test_amounts_of_charts_at_their_last_digit(kind: str) -> None:
    page = compose(11, kind=kind, hd=4)
    answers = [q.answer.removesuffix("%") for q in page.questions if q.kind in ("bar", "point", "slice")]
    told = amounts_of(page, hd=4)
    assert {str(amount) for amount, _ in told.values()} == set(answers)
    owners = {q.answer.removesuffix("%"): q.question for q in page.questions if q.kind in ("bar", "point", "slice")}
    glyph_tokens = page_glyph_tokens(page, hd=4)
    for token, (amount, name) in told.items():
        assert owners[str(amount)].endswith(f" {name}?")
        own = {chr(int(c) + 32) for c in glyph_tokens.chars[token] if c} <= set(name if kind == "curve" else "")
        assert own or last_figure(glyph_tokens.chars[token], amount)
    ends = {amount for token, (amount, _) in told.items() if last_figure(glyph_tokens.chars[token], amount)}
    assert ends == {amount for amount, _ in told.values()}
    probes, count = zeroed(AuxiliaryProbes(8, head=4, layer=0, weight=1.0)), len(glyph_tokens.special)
    with torch.no_grad():
        without = probes.loss([torch.zeros(1, count, 8)], [page], hd=4, image=count)
        probes.readout.bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.0]))
        moved = probes.loss([torch.zeros(1, count, 8)], [page], hd=4, image=count)
    sizes = np.log10([amount for amount, _ in told.values()]) - MIDDLE
    assert float(moved - without) == pytest.approx(((0.5 - sizes) ** 2).mean() - (sizes**2).mean(), abs=1e-4)


def test_copying_tasks_start_with_unique_letters() -> None:
    for number in range(8):
        page = compose(number, hd=4)
        whole = "\n".join(text.string for text in page.texts)
        read = copying_tasks(np.random.default_rng(number), page, 12)
        assert read
        for one in read:
            assert whole.count(one.question) == 1
            assert any(text.string.endswith(one.question + one.answer) for text in page.texts)
            assert len(one.question + one.answer) <= LONGEST
        first = read[0]
        (answer,), (named,) = (
            places_of(page, [first], hd=4, target=target) for target in ("answer_copy", "query_word_copy")
        )
        assert answer is not None
        assert named is not None
        assert len(answer) == len(first.answer)
        assert max(named) == len(first.answer)
        packed = pack([[first]], prefix=4 + 20, form="direct")
        assert int(packed.firsts[0, 0]) == len(first.question) - 1
    empty = compose(1, hd=1)
    empty.texts = []
    assert copying_tasks(np.random.default_rng(0), empty, 3) == []
