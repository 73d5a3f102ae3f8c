"""SEED-Bench, the questions about single images."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

IMAGE = Task(
    name="seedbench",
    title="SEED-Bench image",
    dataset="SEEDBench_IMG",
    split="image",
    url="https://opencompass.openxlab.space/utils/benchmarks/SEEDBench/SEEDBench_IMG.tsv",
    md5="68017231464752261a2526d6ca3a10c0",
    check=checks.letters,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.choice,
    rules=scoring.SEED,
    paper=74.7,
    source="paper, table 3",
)
