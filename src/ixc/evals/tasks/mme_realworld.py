"""MME-RealWorld: choices of five about large photographs of the real world; beyond the paper.

Public as shards with changing checksums, so no single download is offered: give the joined MME-RealWorld.tsv.
"""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

EN = Task(
    name="mme_realworld",
    title="MME-RealWorld",
    dataset="MME-RealWorld",
    split="test",
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
