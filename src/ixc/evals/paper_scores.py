"""The paper's tables as data (arXiv 2404.06512 v1, and the published README where it prints more).

    AXES      the 16 benchmarks in the order of Table 3 and of the radar (Fig. 1a)
    TABLE_3   all 16, against the best open models of the time and the closed ones
    TABLE_4   open models of the same size      TABLE_5   high-resolution OCR
    TABLE_6   training and inference resolution (with Fig. 5)
    TABLE_7, TABLE_8, TABLE_9   ablations: global view, newline, merging

Scores are per cent except MME (sum of perception and cognition, at most 2800); OCRBench is its 1000 points / 10.
None: the paper prints no score. Scales and splits differ between tables; `note` says how.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "arXiv 2404.06512 v1"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One benchmark: a row of the comparison, an axis of the radar chart."""

    key: str
    """Short name, key of the rows of `TABLE_3`."""
    title: str
    """Name in the paper."""
    split: str
    """Split of the paper's score."""
    datasets: tuple[str, ...]
    """Official data-set names of this axis, the paper's split first; scores of other splits are marked."""
    most: float = 100.0
    """Best possible score."""


AXES: tuple[Axis, ...] = (
    Axis(key="doc", title="DocVQA", split="test", datasets=("DocVQA_TEST", "DocVQA_VAL")),
    Axis(key="chart", title="ChartQA", split="test", datasets=("ChartQA_TEST",)),
    Axis(key="info", title="InfoVQA", split="test", datasets=("InfoVQA_TEST", "InfoVQA_VAL")),
    Axis(key="text", title="TextVQA", split="val", datasets=("TextVQA_VAL",)),
    Axis(key="ocrb", title="OCRBench", split="1000 questions", datasets=("OCRBench",)),
    Axis(key="mmstar", title="MMStar", split="all", datasets=("MMStar",)),
    Axis(key="mathvista", title="MathVista", split="testmini", datasets=("MathVista_MINI",)),
    Axis(key="ai2d", title="AI2D", split="test", datasets=("AI2D_TEST",)),
    Axis(key="mmmu", title="MMMU", split="val", datasets=("MMMU_DEV_VAL",)),
    Axis(key="mme", title="MME", split="all, sum", datasets=("MME",), most=2800.0),
    Axis(key="mmb", title="MMBench", split="test EN", datasets=("MMBench_TEST_EN", "MMBench", "MMBench_DEV_EN")),
    Axis(
        key="mmbcn", title="MMBench-CN", split="test CN", datasets=("MMBench_TEST_CN", "MMBench_CN", "MMBench_DEV_CN")
    ),
    Axis(key="seed", title="SEED-Bench", split="image", datasets=("SEEDBench_IMG",)),
    Axis(key="qbench", title="Q-Bench", split="test", datasets=("Q-Bench1_TEST", "Q-Bench1_VAL")),
    Axis(key="mmvet", title="MM-Vet", split="all", datasets=("MMVet",)),
    Axis(key="hall", title="HallusionBench", split="image", datasets=("HallusionBench",)),
)

PUBLISHED = "IXC2-4KHD-7B"
"""Row of the published model in every table."""

RADAR = ("GPT-4V", "Gemini Pro", PUBLISHED)
"""Rows of `TABLE_3` that Fig. 1a shows."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper."""

    title: str
    """Number and subject."""
    source: str
    """Where it is printed."""
    columns: tuple[str, ...]
    """Benchmarks."""
    rows: dict[str, tuple[float | None, ...]]
    """Model or setting -> one score per column; None: not printed."""
    note: str = ""
    """Splits, and contradictions between tables."""


def value(row: str, key: str) -> float | None:
    """Look up the score of a row of Table 3 on an axis; None if not printed."""
    return TABLE_3.rows[row][TABLE_3.columns.index(key)]


def axis_of(dataset: str) -> Axis | None:
    """Look up the axis of an official data-set name; None for benchmarks outside the paper."""
    return next((axis for axis in AXES if dataset in axis.datasets), None)


TABLE_3 = PaperTable(
    title="Table 3: the sixteen benchmarks",
    source=f"{PAPER}, Table 3; the row of 1.8B: published README",
    columns=tuple(axis.key for axis in AXES),
    rows={
        "best open": (82.2, 70.2, 44.5, 76.1, 59.0, 52.1, 39.0, 78.9, 51.6, 2050.2, 81.1, 79.0, 75.7, 64.4, 54.5, 39.3),
        "GPT-4V": (88.4, 78.5, 75.1, 78.0, 51.6, 57.1, 47.8, 75.5, 56.8, 1926.5, 77.0, 74.4, 69.1, 74.1, 56.8, 46.5),
        "Gemini Pro": (
            88.1, 74.1, 75.2, 74.6, 68.0, 42.6, 45.8, 70.2, 47.9, 1933.3, 73.6, 74.3, 70.7, 70.6, 59.2, 45.2,
        ),
        "IXC2-VL-1.8B": (
            48.3, 57.8, 24.1, 65.9, 46.0, 46.3, 48.2, None, 30.1, None, 72.5, None, 70.4, None, 30.1, 34.4,
        ),
        "IXC2-VL-7B": (
            57.7, 72.6, 34.4, 70.1, 53.2, 55.4, 57.6, 81.2, 41.4, 2220.4, 80.7, 79.4, 74.9, 72.5, 46.7, 41.0,
        ),
        PUBLISHED: (90.0, 81.0, 68.6, 77.2, 67.5, 54.1, 57.8, 80.9, 39.7, 2204.9, 80.2, 77.7, 74.7, 71.8, 54.9, 40.9),
    },
    note=(
        "MMMU is 39.7 in the table but 39.9 in Fig. 1a and the README. The paper credits DocOwl 1.5 with 44.5 on "
        "InfoVQA; its own Table 5 gives 50.7 to DocOwl 1.5 and 44.5 to CogAgent."
    ),
)  # fmt: skip

TABLE_4 = PaperTable(
    title="Table 4: open models of similar size",
    source=f"{PAPER}, Table 4",
    columns=("MMStar", "MathVista", "AI2D", "MME-P", "MME-C", "MMB", "MMB-CN", "SEED", "Q-Bench", "MM-Vet"),
    rows={
        "Qwen-VL-Chat": (37.5, 33.8, 63.0, 1487.5, 360.7, 60.6, 56.7, 58.2, 61.7, 47.3),
        "ShareGPT4V-7B": (33.0, 25.8, 58.0, 1567.4, 376.4, 68.8, 62.2, 69.7, None, 37.6),
        "Monkey": (38.3, 34.8, 62.5, 1522.4, 401.4, 72.4, 67.5, 68.9, None, 33.0),
        "CogVLM-17B": (36.5, 34.7, 63.3, None, None, 65.8, 55.9, 68.8, None, 54.5),
        "LLaVA-1.5-13B": (32.8, 26.1, 61.1, 1531.3, 295.4, 67.7, 63.6, 68.2, 61.4, 35.4),
        "LLaVA-Next-13B": (38.3, 32.4, 72.2, 1445.0, 296.0, 70.0, 68.5, 71.4, None, 44.9),
        "IXC2-VL-7B": (55.4, 57.6, 81.2, 1712.0, 530.7, 80.7, 79.4, 74.9, 72.5, 46.7),
        PUBLISHED: (54.1, 57.8, 80.9, 1655.9, 548.9, 80.2, 77.7, 74.7, 71.8, 54.9),
    },
)

TABLE_5 = PaperTable(
    title="Table 5: high-resolution OCR",
    source=f"{PAPER}, Table 5",
    columns=("DocVQA", "ChartQA", "InfoVQA", "TextVQA", "OCRBench"),
    rows={
        "TextMonkey, 9B, 896 x 896": (73.0, 66.9, 28.6, 65.6, 55.8),
        "LLaVA-UHD, 13B, 1008 x 672": (None, None, None, 67.7, None),
        "CogAgent, 17B, 1024 x 1024": (81.6, 68.4, 44.5, 76.1, 59.0),
        "UReader, 7B, 2240 x 2240": (65.4, 59.3, 42.2, 57.6, None),
        "DocOwl 1.5, 8B, 1344 x 1344": (82.2, 70.2, 50.7, 68.6, None),
        f"{PUBLISHED}, 3840 x 1600": (90.0, 81.0, 68.6, 77.2, 67.5),
    },
    note="DocVQA, ChartQA and InfoVQA on test, TextVQA on val.",
)

ABLATED = ("DocVQA", "InfoVQA", "TextVQA", "ChartQA", "MMBench", "MME", "SEED (2k)")
"""Columns of Tables 6 to 9: DocVQA, InfoVQA and TextVQA on val, ChartQA on test, SEED on 2,000 questions."""

SPLITS = "DocVQA, InfoVQA and TextVQA on val, ChartQA on test, MMBench EN test, SEED-Bench on 2,000 questions."

TABLE_6 = PaperTable(
    title="Fig. 5 and Table 6: resolution in training -> in inference",
    source=f"{PAPER}, Fig. 5 and Table 6",
    columns=ABLATED,
    rows={
        "HD-9 -> HD-9": (79.4, 50.5, 73.8, 78.2, 79.5, 2201, 76.6),
        "HD-9 -> HD-16": (83.0, 58.6, 74.3, 75.8, 79.3, 2198, 76.7),
        "HD-16 -> HD-16": (84.9, 60.8, 75.7, 80.1, 80.2, 2129, 75.7),
        "HD-16 -> HD-25": (85.9, 62.1, 75.8, 79.1, 80.1, 2100, 75.4),
        "HD-25 -> HD-25": (87.0, 63.6, 76.0, 80.3, 78.5, 2209, 74.9),
        "HD-25 -> HD-30": (87.4, 64.6, 76.2, 79.4, 78.9, 2173, 74.3),
        "4KHD (25 and 55)": (89.0, 69.3, 77.2, 81.0, 80.2, 2205, 76.2),
    },
    note=SPLITS,
)

TABLE_7 = PaperTable(
    title="Table 7: the global view",
    source=f"{PAPER}, Table 7",
    columns=ABLATED,
    rows={
        "HD-9, with": (79.4, 50.5, 73.8, 78.2, 79.5, 2201, 76.6),
        "HD-9, without": (78.1, 47.9, 71.2, 77.9, 75.1, 2019, 76.2),
    },
    note=SPLITS,
)

TABLE_8 = PaperTable(
    title="Table 8: the newline token",
    source=f"{PAPER}, Table 8",
    columns=ABLATED,
    rows={
        "HD-9, with": (79.4, 50.5, 73.8, 78.2, 79.5, 2201, 76.6),
        "HD-9, without": (79.5, 50.3, 74.0, 78.2, 79.1, 2206, 75.9),
        "4KHD, with": (89.0, 69.3, 77.2, 81.0, 80.2, 2205, 76.2),
        "4KHD, without": (88.1, 67.4, 75.9, 80.4, 79.9, 2232, 76.4),
    },
    note=SPLITS,
)

TABLE_9 = PaperTable(
    title="Table 9: merging visual tokens",
    source=f"{PAPER}, Table 9",
    columns=ABLATED,
    rows={
        "Re-Sampler": (86.2, 67.1, 75.3, 78.8, 79.6, 2124, 74.2),
        "C-Abstractor": (88.6, 69.5, 77.1, 80.6, 80.4, 2236, 76.7),
        "Concatenation (published)": (89.0, 69.3, 77.2, 81.0, 80.2, 2205, 76.2),
    },
    note=SPLITS,
)

FURTHER: tuple[PaperTable, ...] = (TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLE_8, TABLE_9)
"""All tables besides Table 3, in the paper's order."""
