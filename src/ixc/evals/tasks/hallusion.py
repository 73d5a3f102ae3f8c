"""HallusionBench, the questions with an image: yes or no; mean of right answers, figures and questions."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

IMAGE = Task(
    name="hallusion",
    title="HallusionBench",
    dataset="HallusionBench",
    split="image",
    url="https://opencompass.openxlab.space/utils/VLMEval/HallusionBench.tsv",
    md5="0c23ac0dc9ef46832d7a24504f2a0c7c",
    columns=("answer", "category", "l2-category"),
    check=checks.hallusion,
    max_new_tokens=10,
    published=prompts.published_hallusion,
    clean=prompts.clean_yes_no,
    scorer=scoring.hallusion,
    rules=scoring.HALLUSION,
    paper=40.9,
    source="paper, table 3: mean of aAcc, fAcc and qAcc",
)
