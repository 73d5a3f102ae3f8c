"""Answers read and scored one by one: equal to VLMEvalKit's, lmms-eval's and the official scorers' results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_goldens import Case, assert_family, families, golden, of_family, scripted

from ixc.errors import UsageError
from ixc.evals.metrics import anls, cells, choice, mathvista, mmmu, mmvet, ocrbench, relaxed, vqa, yes_no
from ixc.evals.metrics.punctuation import PUNCTUATION

texts = st.text(max_size=20)


@pytest.mark.parametrize("family", families("anls"), ids="-".join)
def test_anls(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def answers(case: Case) -> list[str]:
        return cells.answers(case["input"].get("answer_cell", case["input"]["answers"]))

    def score(case: Case) -> float:
        return anls.anls(case["input"]["prediction"], answers(case))

    assert_family(cases, score)
    assert_family(cases, score, "lmms")
    assert_family(cases, lambda c: [anls.distance(c["input"]["prediction"], a) for a in answers(c)], "distances")


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_anls_is_0_or_at_least_half(prediction: str, answers: list[str]) -> None:
    score = anls.anls(prediction, answers)
    assert score == 0 or 0.5 <= score <= 1
    assert anls.anls(answers[0], answers) == 1


@given(texts, texts, texts)
def test_anls_edits_are_a_distance(a: str, b: str, c: str) -> None:
    assert anls.edits(a, b) == anls.edits(b, a) <= max(len(a), len(b))
    assert anls.edits(a, c) <= anls.edits(a, b) + anls.edits(b, c)
    assert (anls.edits(a, b) == 0) == (a == b)


@pytest.mark.parametrize("family", families("relaxed_accuracy"), ids="-".join)
def test_relaxed(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def score(case: Case, rule: str) -> float:
        return relaxed.relaxed(case["input"]["prediction"], cells.answers(case["input"]["answer_cell"]), rule=rule)

    assert_family(cases, lambda c: score(c, "vlmevalkit"))
    assert_family(cases, lambda c: score(c, "lmms"), "lmms")
    assert_family(cases, lambda c: score(c, "notebook"), lambda c: c.get("original_ixc_notebook", c["expected"]))


@pytest.mark.parametrize("family", families("vqa_score"), ids="-".join)
def test_vqa(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    assert_family(cases, lambda c: vqa.vqa(c["input"]["prediction"], c["input"]["answers"]))
    assert_family(cases, lambda c: vqa.vqa(c["input"]["prediction"], c["input"]["answers"], rule="lmms"), "lmms")
    assert_family(cases, lambda c: vqa.normalise(c["input"]["prediction"]), "pred_norm")
    assert_family(
        cases,
        lambda c: vqa.normalise(c["input"]["prediction"], rule="lmms"),
        lambda c: c.get("lmms_pred_norm", c["pred_norm"]),
    )


@given(texts, st.lists(texts, min_size=1, max_size=10))
def test_vqa_is_a_share(prediction: str, answers: list[str]) -> None:
    assert 0 <= vqa.vqa(prediction, answers) <= 1
    assert vqa.vqa(prediction, [prediction] * 10) == 1


@given(st.text(alphabet=PUNCTUATION + " .ab19'", max_size=20))
def test_vqa_normalised_text_holds_no_punctuation(text: str) -> None:
    assert not set(vqa.normalise(text)) & set(PUNCTUATION)


@pytest.mark.parametrize("family", families("can_infer"), ids="-".join)
def test_choice(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def found(case: Case, rule: str = "vlmevalkit") -> str | None:
        return choice.infer(case["input"]["prediction"], case["input"]["choices"], rule=rule)

    def step(key: str):
        return lambda c: c[key] or None

    assert_family(cases, found, step("expected"))
    assert_family(
        cases, lambda c: choice.letter(str(c["input"]["prediction"]), c["input"]["choices"]), step("option_step")
    )
    assert_family(
        cases, lambda c: choice.by_text(str(c["input"]["prediction"]), c["input"]["choices"]), step("text_step")
    )
    assert_family(
        cases,
        lambda c: found(c, "vlmevalkit-verbose"),
        lambda c: c.get("expected_if_VERBOSE_set", c["expected"]) or None,
    )
    for key in ("lmms_mmstar", "lmms_mmbench_static", "lmms_mmmu_qbench"):
        rule = {"lmms_mmstar": "lmms-mmstar", "lmms_mmbench_static": "lmms-mmbench", "lmms_mmmu_qbench": "lmms-mmmu"}[
            key
        ]
        assert_family(
            [c for c in cases if key in c],
            lambda c, rule=rule: found(c, rule),
            lambda c, key=key: None if c[key] == "RANDOM" else c[key] or None,
        )


@pytest.mark.parametrize("family", families("mcq_judge"), ids="-".join)
def test_choice_with_a_judge(family: tuple[str, str]) -> None:
    def found(case: Case) -> list[object]:
        row = case["input"]
        judge, asked = scripted(row["judge_outputs"])
        item = choice.ChoiceItem(
            index=0, choices=row["choices"], answer=row["answer"], prediction=str(row["prediction"]), question="Why?"
        )
        letter = choice.decide(item, judge=judge)
        assert all("Why?" in prompt and item.prediction in prompt for prompt in asked)
        return [letter, int(letter == item.answer), len(asked)]

    assert_family(of_family(*family), found, lambda c: [c["expected_opt"], c["expected"], c["judge_calls"]])


@pytest.mark.parametrize("family", families("yes_no"), ids="-".join)
def test_yes_no(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    mme = {"yes": "Yes", "no": "No", "other": "Unknown"}
    assert_family(cases, lambda c: yes_no.yes_no(c["input"]["prediction"]))
    assert_family(cases, lambda c: yes_no.yes_no(c["input"]["prediction"], rule="lmms"), lambda c: mme[c["lmms_mme"]])
    assert_family(
        cases, lambda c: yes_no.yes_no(c["input"]["prediction"], rule="notebook"), "lmms_and_original_hallusion"
    )


def test_yes_no_with_a_judge() -> None:
    judge, asked = scripted(["hm", "Yes"])
    assert yes_no.decide("Is it?", "no, it is", judge=judge) == "No"
    assert asked == []
    assert yes_no.decide("Is it?", "it seems so", judge=judge) == "Yes"
    assert len(asked) == 2
    assert yes_no.decide("Is it?", "it seems so", judge=lambda _: "hm") == "Unknown"
    assert yes_no.decide("Is it?", "it seems so") == "Unknown"


@pytest.mark.parametrize("family", families("ocrbench_item"), ids="-".join)
def test_ocrbench(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def found(case: Case, rule: str = "vlmevalkit") -> int:
        row = case["input"]
        return ocrbench.hit(row["prediction"], row["answers"], row["category"], rule=rule)

    assert_family(cases, found)
    assert_family(cases, lambda c: found(c, "lmms"), "lmms")


def mmmu_item(row: Case) -> choice.ChoiceItem:
    return choice.ChoiceItem(index=0, choices=row["choices"], answer=row["answer"], prediction=row["prediction"])


@pytest.mark.parametrize("family", families("mmmu_conversion"), ids="-".join)
def test_mmmu(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    assert_family(cases, lambda c: mmmu.hit(mmmu_item(c["input"])))
    assert_family(
        cases,
        lambda c: {k: v for k, v in mmmu.as_choice(mmmu_item(c["input"])).choices.items() if k in ("A", "B")},
        "converted",
    )
    assert_family(cases, lambda c: mmmu.hit(mmmu_item(c["input"]), rule="official"), "original_mmmu_eval")
    assert_family(cases, lambda c: mmmu.hit(mmmu_item(c["input"]), rule="lmms-75571cfe"), "lmms_mmmu")


@pytest.mark.parametrize("family", families("mathvista_compare"), ids="-".join)
def test_mathvista(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def problem(case: Case) -> mathvista.MathVistaProblem:
        row = case["input"]
        return mathvista.MathVistaProblem(
            question_type=row["question_type"],
            answer_type=row["answer_type"],
            answer=row["answer"],
            option=row["answer_option"],
            choices=row["choices"] or (),
            prediction=row["prediction"],
        )

    def found(case: Case) -> list[object]:
        judge, _ = scripted(case["input"]["judge_outputs"])
        extracted = mathvista.extract(problem(case), judge=judge)
        assert extracted.prefetched == (case["log"] == "Prefetch succeed")
        return [extracted.result, extracted.log, mathvista.correct(problem(case), extracted.result)]

    def by_lmms(case: Case) -> dict[str, object]:
        decimals = len(case["input"]["answer"].partition(".")[2])
        precision = max(1, min(2, decimals)) if case["input"]["answer_type"] == "float" else 0
        return {
            "normalized": mathvista.lmms_normal(problem(case), case["res"], precision=precision),
            "correct": mathvista.lmms_correct(problem(case), case["res"], precision=precision),
        }

    assert_family(cases, found, lambda c: [c["res"], c["log"], c["expected"]])
    assert_family(
        cases, lambda c: mathvista.prefetch(problem(c)), lambda c: None if c["prefetch"] is False else c["prefetch"]
    )
    assert_family(cases, by_lmms, "lmms")


@pytest.mark.parametrize("family", families("mmvet_judge_parse"), ids="-".join)
def test_mmvet_judge(family: tuple[str, str]) -> None:
    def found(case: Case) -> list[object]:
        judge, asked = scripted(case["input"]["judge_outputs"])
        graded = mmvet.grade("What?", "x<AND>y", "x", judge=judge)
        assert len(asked) == graded.tries
        assert asked[0].endswith("What? | x <AND> y | x | ")
        return [graded.score, graded.log, graded.tries]

    assert_family(of_family(*family), found, lambda c: [c["expected"], c["log"], c["tries"]])


def test_mmvet_without_a_judge() -> None:
    assert mmvet.contained("-1<AND>-5", "x is -1") == 0.5
    assert mmvet.contained("two<OR>2", "There are 2.") == 1.0


def test_cells_answers_are_never_evaluated() -> None:
    assert cells.answers("['a', 'b']") == ["a", "b"]
    assert cells.answers("[2002, 2003]") == ["2002", "2003"]
    assert cells.answers("[print(1)]") == ["[print(1)]"]
    assert cells.answers(7) == ["7"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: relaxed.relaxed("1", ["1"], rule="x"),
        lambda: vqa.vqa("1", ["1"], rule="x"),
        lambda: choice.infer("1", {"A": "1"}, rule="x"),
        lambda: yes_no.yes_no("1", rule="x"),
        lambda: ocrbench.hit("1", ["1"], "", rule="x"),
        lambda: mmvet.mmvet([], rule="x"),
    ],
)
def test_metrics_unknown_rule_is_refused_by_name(call) -> None:
    with pytest.raises(UsageError, match="no rule 'x'; choose"):
        call()


def test_metrics_item_goldens_are_all_used() -> None:
    item_metrics = "anls relaxed_accuracy vqa_score can_infer mcq_judge yes_no ocrbench_item mmmu_conversion"
    for name in [*item_metrics.split(), "mathvista_compare", "mmvet_judge_parse"]:
        found = sum(len(of_family(*family)) for family in families(name))
        assert found == golden(f"cases/{name}")["count"]
