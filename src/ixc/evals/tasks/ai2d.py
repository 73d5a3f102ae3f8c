"""AI2D: choices about diagrams of school books."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

TEST = Task(
    name="ai2d",
    title="AI2D",
    dataset="AI2D_TEST",
    split="test",
    url="https://opencompass.openxlab.space/utils/VLMEval/AI2D_TEST.tsv",
    md5="0f593e0d1c7df9a3d69bf1f947e71975",
    check=checks.letters,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.choice,
    rules=scoring.AI2D,
    paper=80.9,
    source="paper, table 3",
)
