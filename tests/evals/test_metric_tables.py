"""Tables of whole benchmarks: equal to VLMEvalKit's and the official ones, and to the published scores."""

import pytest
from metric_goldens import Case, assert_family, families, golden, of_family, same, scripted

from ixc.errors import DataError
from ixc.evals.metrics import accuracy, choice, circular, hallusion, llava, mathvista, mme, mmmu, mmvet, ocrbench
from ixc.evals.metrics.cells import answers


def items(rows: list[list]) -> list[choice.ChoiceItem]:
    return [choice.ChoiceItem(index=r[0], choices=r[1], answer=r[2], prediction=str(r[3])) for r in rows]


@pytest.mark.parametrize("family", families("circular_eval"), ids="-".join)
def test_circular(family: tuple[str, str]) -> None:
    cases = of_family(*family)

    def found(case: Case, rule: str = "vlmevalkit") -> dict[int, int]:
        return circular.circular(items(case["input"]["rows"]), rule=rule)

    assert_family(cases, found, lambda c: {c["input"]["g_index"]: c["expected"]})
    assert_family(cases, lambda c: found(c, "lmms"), lambda c: {c["input"]["g_index"]: c["lmms_static"]})
    assert_family(cases, lambda c: [choice.hit(item) for item in items(c["input"]["rows"])], "vanilla_hits")


@pytest.mark.parametrize("family", families("circular_eval_judge"), ids="-".join)
def test_circular_with_a_judge(family: tuple[str, str]) -> None:
    def found(case: Case) -> list[int]:
        rows = case["input"]["rows"]
        scripts = {choice.judge_prompt(item): scripted(row[4]) for item, row in zip(items(rows), rows, strict=True)}
        hits = circular.circular(items(rows), judge=lambda prompt: scripts[prompt][0](prompt))
        return [hits[case["input"]["g_index"]], sum(len(asked) for _, asked in scripts.values())]

    assert_family(of_family(*family), found, lambda c: [c["expected"], c["judge_calls"]])


@pytest.mark.parametrize("family", families("mcq_report_acc"), ids="-".join)
def test_accuracy(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    assert_family(cases, lambda c: accuracy.accuracy([tuple(row) for row in c["input"]["rows"]]))
    assert_family(cases, lambda c: accuracy.macro([tuple(row) for row in c["input"]["rows"]]), "lmms_mmstar_average")


@pytest.mark.parametrize("family", families("mme_rating"), ids="-".join)
def test_mme(family: tuple[str, str]) -> None:
    def found(case: Case) -> dict[str, float]:
        return mme.mme((category, path, answer == said) for category, path, answer, said in case["input"]["rows"])

    cases = of_family(*family)
    assert_family(cases, found)
    paired = [c for c in cases if "lmms" in c]
    assert_family(
        paired, lambda c: [found(c)["perception"], found(c)["reasoning"]], lambda c: list(c["lmms"].values())[:2]
    )


def hallusion_rows(case: Case) -> list[hallusion.HallusionRow]:
    return [
        hallusion.HallusionRow(index=index, category=category, subcategory=sub, right=answer == said)
        for index, category, sub, answer, said in case["input"]["rows"]
    ]


@pytest.mark.parametrize("family", families("hallusion_rating"), ids="-".join)
def test_hallusion(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    table = {c["id"]: hallusion.hallusion(hallusion_rows(c)) for c in cases}
    assert_family(cases, lambda c: {split: list(shares) for split, shares in table[c["id"]].items()})
    assert_family(cases, lambda c: sum(hallusion.shares(hallusion_rows(c))) / 3, "expected_mean_of_three")
    assert_family(cases, lambda c: list(hallusion.shares(hallusion_rows(c), rule="notebook")), "lmms_intern")


@pytest.mark.parametrize("family", families("ocrbench_sums"), ids="-".join)
def test_ocrbench(family: tuple[str, str]) -> None:
    def found(case: Case) -> dict[str, float]:
        return ocrbench.ocrbench(
            (task, ocrbench.hit(said, answers(gold), task)) for task, said, gold in case["input"]["rows"]
        )

    assert_family(of_family(*family), found)


@pytest.mark.parametrize("family", families("mathvista_acc"), ids="-".join)
def test_mathvista(family: tuple[str, str]) -> None:
    def right(answer: str, result: str) -> bool:
        problem = mathvista.MathVistaProblem(
            question_type="free_form", answer_type="integer", answer=answer, option=None, choices=(), prediction=""
        )
        return mathvista.correct(problem, result)

    def found(case: Case) -> dict[str, list[float]]:
        table = mathvista.mathvista(
            (task, skills, log == "Prefetch succeed", right(answer, result))
            for task, skills, answer, result, log in case["input"]["rows"]
        )
        return {name: [r.total, r.prefetched, r.hits, r.prefetch_rate, r.accuracy] for name, r in table.items()}

    assert_family(of_family(*family), found)


def means(table: mmvet.MmvetTable) -> dict[str, dict[str, list[float]]]:
    return {
        "capability": {name: list(mean) for name, mean in table.capability.items()},
        "integration": {name: list(mean) for name, mean in table.integration.items()},
    }


@pytest.mark.parametrize("family", families("mmvet_aggregate"), ids="-".join)
def test_mmvet(family: tuple[str, str]) -> None:
    cases = of_family(*family)
    assert_family(cases, lambda c: means(mmvet.mmvet(c["input"]["rows"])))
    assert_family(cases, lambda c: means(mmvet.mmvet(c["input"]["rows"], rule="official")), "official_notebook")
    assert_family(cases, lambda c: mmvet.mmvet(c["input"]["rows"]).capability["Overall"][1], "lmms_overall")


def test_mmvet_published() -> None:
    """MM-Vet 51.2 of InternLM-XComposer2-VL, from its published grades."""
    published = golden("realistic/mmvet_ixc2_published")
    replies = published["judge_contents"]
    grades = [mmvet.grade("", "", "", judge=lambda _, r=reply: r).score for reply in replies.values()]
    assert grades == list(published["per_question_scores"].values())
    total = mmvet.mmvet([("rec", score) for score in grades]).capability["Overall"]
    assert same(total[1], published["expected_total"])
    assert round(total[1], 1) == published["published"]["capability"]["total"] == 51.2
    rebuilt = [(names, score) for names, count, score in published["rebuilt_rows"] for _ in range(count)]
    assert same(means(mmvet.mmvet(rebuilt))["capability"], published["expected_vlmevalkit_capability"])
    official = means(mmvet.mmvet(rebuilt, rule="official"))["capability"]
    assert same(official, published["expected_official_capability"])
    for name, score in published["published"]["capability"].items():
        # the means of the combinations are published with one decimal only
        assert abs(official[name][1] - score) <= published["tolerance_official_vs_published"]


def test_mmmu_published() -> None:
    """MMMU val of InternLM-XComposer2-VL from its 900 published answers: 42.0 officially, 41.89 by exact matching."""
    published = golden("realistic/mmmu_val_ixc2_published")
    cases = published["cases"]

    def item(case: Case) -> choice.ChoiceItem:
        return choice.ChoiceItem(
            index=case["id"], choices=case["choices"], answer=str(case["gt"]), prediction=case["pred"]
        )

    assert assert_family(cases, lambda c: mmmu.hit(item(c), rule="official"), "expected_original") == 900
    assert_family(cases, lambda c: mmmu.hit(item(c)), "expected_vlmevalkit")
    official = mmmu.official_table([(c["domain"], c["subject"], mmmu.hit(item(c), rule="official")) for c in cases])
    assert same(
        {name: list(line) for name, line in official.items()},
        {name: [line["num"], line["acc"]] for name, line in published["expected_original_table"].items()},
    )
    assert round(100 * official["Overall"][1], 1) == published["published"]["README_MMMU_val"] == 42.0
    table = accuracy.accuracy([(None, c["subject"], c["domain"], mmmu.hit(item(c))) for c in cases])["none"]
    assert same(table, published["expected_vlmevalkit_table"])
    assert round(100 * (table["Overall"] or 0), 2) == 41.89


def test_choice_hit_of_real_ai2d_questions() -> None:
    real = golden("realistic/ai2d_real_questions")
    found = [
        choice.hit(
            choice.ChoiceItem(
                index=c["line"], choices=c["choices"], answer=c["answer"], prediction=str(c["prediction"])
            )
        )
        for c in real["cases"]
    ]
    assert [c["line"] for c, f in zip(real["cases"], found, strict=True) if c["expected"] != f] == []
    assert same(accuracy.accuracy([(None, None, None, f) for f in found])["none"]["Overall"], real["expected_overall"])


def test_llava_published() -> None:
    published = golden("realistic/llava_wild_ixc2_published")
    table = llava.llava([(kind, *points) for _, kind, points, _ in published["rows"]])
    assert {kind: list(line) for kind, line in table.items()} == published["expected"] == published["published"]


def test_metrics_published_sums() -> None:
    """Sums and means of the published tables: MME's two, and HallusionBench's mean of three."""
    tables = golden("realistic/published_tables")
    points = tables["mme"]["categories"]
    assert same(sum(points[name] for name in mme.PERCEPTION), tables["mme"]["expected_perception_sum"])
    assert same(sum(points[name] for name in mme.REASONING), tables["mme"]["expected_cognition_sum"])
    assert same(sum(tables["hallusion"]["published"]) / 3, tables["hallusion"]["mean_of_three"])
    chart = tables["chartqa"]
    assert round((chart["human"] + chart["augmented"]) / 2, 2) == chart["published_overall"]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: mme.mme([("OCR", "1.jpg", True), ("OCR", "1.jpg", True)]), "13 of 14 categories"),
        (lambda: hallusion.hallusion([]), "0 rows"),
        (
            lambda: hallusion.hallusion(
                [hallusion.HallusionRow(index="1_VD_ocr", category="VD", subcategory="ocr", right=True)]
            ),
            "3 parts joined by '_', 6 needed",
        ),
        (lambda: ocrbench.ocrbench([("Poetry", 1)]), "no category 'Poetry'"),
        (lambda: circular.circular(items([["x", {"A": "1"}, "A", "A"]])), "index 'x' is no whole number"),
        (lambda: accuracy.accuracy([]), "0 rows"),
        (lambda: mathvista.mathvista([]), "0 rows"),
        (lambda: mmvet.mmvet([]), "0 rows"),
        (lambda: answers("[]"), "0 accepted answers"),
        (lambda: accuracy.macro([(None, None, None, 1)]), "0 of 1 rows have an l2-category"),
    ],
)
def test_metrics_data_that_cannot_be_scored(call, line: str) -> None:
    with pytest.raises(DataError, match=line):
        call()


def test_metrics_table_goldens_are_all_used() -> None:
    tables = "hallusion_rating mathvista_acc mcq_report_acc mme_rating mmvet_aggregate ocrbench_sums"
    for name in ["circular_eval", "circular_eval_judge", *tables.split()]:
        assert sum(len(of_family(*family)) for family in families(name)) == golden(f"cases/{name}")["count"]
