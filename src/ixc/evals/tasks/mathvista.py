"""MathVista testmini: mathematics in pictures; a judge reads the answer, which then must be equal.

Without a judge only what the rules can read is scored, under another name.
"""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

MINI = Task(
    name="mathvista",
    title="MathVista",
    dataset="MathVista_MINI",
    split="testmini",
    url="https://opencompass.openxlab.space/utils/VLMEval/MathVista_MINI.tsv",
    md5="f199b98e178e5a2a20e7048f5dcb0464",
    columns=("answer", "question_type", "answer_type", "answer_option", "choices", "task", "skills"),
    check=checks.mathvista,
    published=prompts.published_bare,
    clean=prompts.clean_bare,
    clean_max_new_tokens=512,
    scorer=scoring.mathvista,
    rules=scoring.MATHVISTA,
    judged=True,
    paper=57.8,
    source="paper, table 3",
)
