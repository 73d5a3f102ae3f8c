"""HR-Bench: choices about images of 4K and 8K pixels, every question asked in four orders of its options.

The score is the mean over the orders (`cycle_category`) of the share of right answers; beyond the paper.
"""

from dataclasses import replace

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

HOST = "https://huggingface.co/datasets/DreamMr/HR-Bench/resolve/main"

HR_4K = Task(
    name="hrbench_4k",
    title="HR-Bench 4K",
    dataset="HRBench4K",
    split="test",
    url=f"{HOST}/hr_bench_4k.tsv",
    md5="f6b041b03d49543494b8a56d2e35be65",
    columns=("answer", "category", "cycle_category"),
    check=checks.letters,
    hd=55,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.hrbench,
    source="not in the paper; the prompt is that of its other choices, HD-55 is ours",
)

HR_8K = replace(
    HR_4K,
    name="hrbench_8k",
    title="HR-Bench 8K",
    dataset="HRBench8K",
    url=f"{HOST}/hr_bench_8k.tsv",
    md5="274c9c7f89329b804a4723178a00219c",
)
