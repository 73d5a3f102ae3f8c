"""V*: small things in large photographs; beyond the paper."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

TEST = Task(
    name="vstar",
    title="V*",
    dataset="VStarBench",
    split="test",
    url="https://huggingface.co/datasets/xjtupanda/VStar_Bench/resolve/main/VStarBench.tsv",
    md5="b18854d7075574be06b631cd5f7d2d6a",
    check=checks.letters,
    hd=55,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.choice,
    source="not in the paper; the prompt is that of its other choices, HD-55 is ours",
)
