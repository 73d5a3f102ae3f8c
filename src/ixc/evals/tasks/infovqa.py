"""InfographicVQA: one question about an infographic, scored by ANLS. Test is scored by a server."""

from dataclasses import replace

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

HOST = "https://opencompass.openxlab.space/utils/VLMEval"

VAL = Task(
    name="infovqa_val",
    title="InfoVQA",
    dataset="InfoVQA_VAL",
    split="val",
    url=f"{HOST}/InfoVQA_VAL.tsv",
    md5="2342e9c225222f0ef4dec545ebb126fe",
    check=checks.listed_answers,
    hd=55,
    published=prompts.published_vqa,
    clean=prompts.clean_vqa,
    scorer=scoring.anls,
    paper=69.3,
    source="paper, tables 6 to 9 (validation); HD-55 and 3 beams: VLMEvalKit's wrapper of the model",
)

TEST = replace(
    VAL,
    name="infovqa_test",
    dataset="InfoVQA_TEST",
    split="test",
    url=f"{HOST}/InfoVQA_TEST.tsv",
    md5="df535bf51b88dc9718252c34131a6227",
    hd=65,
    hidden=True,
    submission="infovqa",
    paper=68.6,
    source="paper, table 3; HD-65 and 3 beams: VLMEvalKit's wrapper of the model",
)
