"""MMStar: 1500 choices that need the image, six abilities."""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

VAL = Task(
    name="mmstar",
    title="MMStar",
    dataset="MMStar",
    split="val",
    url="https://opencompass.openxlab.space/utils/VLMEval/MMStar.tsv",
    md5="e1ecd2140806c1b1bbf54b43372efb9e",
    check=checks.letters,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.choice,
    rules=scoring.MMSTAR,
    paper=54.1,
    source="paper, table 3",
)
