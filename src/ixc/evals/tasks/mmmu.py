"""MMMU: questions of thirty college subjects, some with several images, some without options.

The published run shows the first image only and leaves `<image 1>` in the text; a clean prompt has every image in place
of its tag, in the question and in the options.
"""

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

VAL = Task(
    name="mmmu",
    title="MMMU",
    dataset="MMMU_DEV_VAL",
    split="validation",
    url="https://opencompass.openxlab.space/utils/VLMEval/MMMU_DEV_VAL.tsv",
    md5="585e8ad75e73f75dcad265dfd0417d64",
    check=checks.mmmu,
    hd=16,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_mmmu,
    clean=prompts.clean_choice,
    image_tags=True,
    scorer=scoring.mmmu,
    rules=scoring.MMMU,
    paper=39.7,
    source="paper, table 3 (its figure 1 has 39.9)",
)
