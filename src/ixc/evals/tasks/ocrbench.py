"""OCRBench: 1000 questions about text of five sorts, right if the answer contains the expected text.

The published run was meant to see 55 tiles and saw 25 (its setting compares a lower-cased name with "OCRBench").
"""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

ALL = Task(
    name="ocrbench",
    title="OCRBench",
    dataset="OCRBench",
    split="test",
    url="https://opencompass.openxlab.space/utils/VLMEval/OCRBench.tsv",
    md5="e953d98a987cc6e26ef717b61260b778",
    columns=("answer", "category"),
    check=checks.ocrbench,
    published=prompts.published_vqa,
    clean=prompts.clean_vqa,
    clean_hd=55,
    scorer=scoring.ocrbench,
    rules=scoring.OCRBENCH,
    paper=67.5,
    source="paper, table 3: points of 1000, divided by 10",
)
