"""MME: two yes-or-no questions per image in fourteen categories; points of 2800."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

ALL = Task(
    name="mme",
    title="MME",
    dataset="MME",
    split="test",
    url="https://opencompass.openxlab.space/utils/VLMEval/MME.tsv",
    md5="b36b43c3f09801f5d368627fb92187c3",
    columns=("answer", "category", "image_path"),
    check=checks.mme,
    num_beams=5,
    max_new_tokens=500,
    published=prompts.published_mme,
    clean=prompts.clean_yes_no,
    scorer=scoring.mme,
    rules=scoring.MME,
    unit="points",
    maximum=2800.0,
    paper=2204.9,
    source="paper, table 3: perception 1655.9 + cognition 548.9",
)
