"""TextVQA: text in photographs, scored against ten people's answers."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

VAL = Task(
    name="textvqa",
    title="TextVQA",
    dataset="TextVQA_VAL",
    split="val",
    url="https://opencompass.openxlab.space/utils/VLMEval/TextVQA_VAL.tsv",
    md5="b233b31f551bbf4056f2f955da3a92cd",
    check=checks.listed_answers,
    published=prompts.published_vqa,
    clean=prompts.clean_vqa,
    scorer=scoring.vqa,
    rules=scoring.VQA,
    paper=77.2,
    source="paper, table 3",
)
