"""MM-Vet: 218 open questions, each answer graded from 0 to 1 by a judge with seven examples.

Without a judge the share of expected words found is given, under another name.
"""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

ALL = Task(
    name="mmvet",
    title="MM-Vet",
    dataset="MMVet",
    split="test",
    url="https://opencompass.openxlab.space/utils/VLMEval/MMVet.tsv",
    md5="748aa6d4aa9d4de798306a63718455e3",
    columns=("answer", "category"),
    check=checks.mmvet,
    hd=16,
    max_new_tokens=500,
    published=prompts.published_mmvet,
    clean=prompts.clean_bare,
    clean_max_new_tokens=512,
    scorer=scoring.mmvet,
    rules=scoring.MMVET,
    judged=True,
    paper=54.9,
    source="paper, table 3",
)
