"""ChartQA: numbers and words of charts, scored by relaxed accuracy (5 %)."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

TEST = Task(
    name="chartqa",
    title="ChartQA",
    dataset="ChartQA_TEST",
    split="test",
    url="https://opencompass.openxlab.space/utils/VLMEval/ChartQA_TEST.tsv",
    md5="c902e0aa9be5582a7aad6dcf52734b42",
    check=checks.listed_answers,
    published=prompts.published_vqa,
    clean=prompts.clean_vqa,
    scorer=scoring.relaxed,
    rules=scoring.RELAXED,
    paper=81.0,
    source="paper, table 3",
)
