"""MMBench v1.0, English and Chinese: a question counts if it is right in every order of its options (circular)."""

from dataclasses import replace

from ixc.evals import checks, prompts, scoring
from ixc.evals.task import Task

HOST = "https://opencompass.openxlab.space/utils/benchmarks/MMBench"

DEV_EN = Task(
    name="mmbench_en",
    title="MMBench",
    dataset="MMBench_DEV_EN",
    split="dev",
    url=f"{HOST}/MMBench_DEV_EN.tsv",
    md5="b6caf1133a01c6bb705cf753bb527ed8",
    check=checks.circular,
    hd=16,
    num_beams=5,
    max_new_tokens=5,
    published=prompts.published_choice,
    finish=prompts.first_capital,
    clean=prompts.clean_choice,
    scorer=scoring.circular,
    rules=scoring.MMBENCH,
    paper=80.2,
    paper_split="test",
    source="paper, table 3 (test)",
)

DEV_CN = replace(
    DEV_EN,
    name="mmbench_cn",
    title="MMBench-CN",
    dataset="MMBench_DEV_CN",
    url=f"{HOST}/MMBench_DEV_CN.tsv",
    md5="08b8fc3324a5ed74155350f57be69fbd",
    paper=77.7,
)

TEST_EN = replace(
    DEV_EN,
    name="mmbench_en_test",
    dataset="MMBench_TEST_EN",
    split="test",
    url=f"{HOST}/MMBench_TEST_EN.tsv",
    md5="6939fadb0ce626fefc0bdc9c64efc528",
    hidden=True,
    submission="mmbench",
    paper_split="",
)

TEST_CN = replace(
    DEV_CN,
    name="mmbench_cn_test",
    dataset="MMBench_TEST_CN",
    split="test",
    url=f"{HOST}/MMBench_TEST_CN.tsv",
    md5="7e1239baf0ee4c8b513e19705a0f317e",
    hidden=True,
    submission="mmbench",
    paper_split="",
)
