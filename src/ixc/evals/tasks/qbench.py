"""Q-Bench 1: choices about the quality of a photograph."""

from dataclasses import replace

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

HOST = "https://huggingface.co/datasets/zhangzicheng/qbench_tsv/resolve/main"

VAL = Task(
    name="qbench",
    title="Q-Bench",
    dataset="Q-Bench1_VAL",
    split="val",
    url=f"{HOST}/Q-Bench1_VAL.tsv",
    md5="837bdb6cd2da571713543462815187b7",
    check=checks.letters,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.choice,
    rules=scoring.QBENCH,
    paper=71.8,
    paper_split="test",
    source="paper, table 3 (test)",
)

TEST = replace(
    VAL,
    name="qbench_test",
    dataset="Q-Bench1_TEST",
    split="test",
    url=f"{HOST}/Q-Bench1_TEST.tsv",
    md5="15e759bfd58c9d5f30b23a317d347153",
    hidden=True,
    submission="qbench",
    paper_split="",
)
