"""DocVQA: one question about a scanned page, scored by ANLS (`metrics/anls.py`).

Validation has answers, test is scored by a server.
"""

from dataclasses import replace

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

HOST = "https://opencompass.openxlab.space/utils/VLMEval"

VAL = Task(
    name="docvqa_val",
    title="DocVQA",
    dataset="DocVQA_VAL",
    split="val",
    url=f"{HOST}/DocVQA_VAL.tsv",
    md5="d5ee77e1926ff10690d469c56b73eabf",
    check=checks.listed_answers,
    hd=55,
    published=prompts.published_vqa,
    clean=prompts.clean_vqa,
    scorer=scoring.anls,
    paper=89.0,
    source="paper, tables 6 to 9 (validation); HD-55 and 3 beams: VLMEvalKit's wrapper of the model",
)

TEST = replace(
    VAL,
    name="docvqa_test",
    dataset="DocVQA_TEST",
    split="test",
    url=f"{HOST}/DocVQA_TEST.tsv",
    md5="6a2f28cac26ef2d3447374e8c6f6c8e9",
    hd=65,
    hidden=True,
    submission="docvqa",
    paper=90.0,
    source="paper, table 3; HD-65 and 3 beams: VLMEvalKit's wrapper of the model",
)
