"""Figures of the paper for the studies: InternLM-XComposer2-4KHD, arXiv 2404.06512, figure 5 and tables 6 to 9.

Doc, Info and Text on their validation sets, Chart on its test set, MMB on EN-test, SEED on 2,000 questions; MME is
a sum of points, the others are per cent.
"""

from __future__ import annotations

COLUMNS = ("Doc", "Info", "Text", "Chart", "MMB", "MME", "SEED")
"""Benchmarks, in the order of the rows."""

READING = ("Doc", "Info", "Text")
"""Benchmarks whose mean is compared with ours: they ask for text on large pages."""

Row = tuple[float, ...]

RESOLUTION: dict[tuple[str, str], Row] = {
    ("HD-9", "HD-9"): (79.4, 50.5, 73.8, 78.2, 79.5, 2201, 76.6),
    ("HD-9", "HD-16"): (83.0, 58.6, 74.3, 75.8, 79.3, 2198, 76.7),
    ("HD-16", "HD-16"): (84.9, 60.8, 75.7, 80.1, 80.2, 2129, 75.7),
    ("HD-16", "HD-25"): (85.9, 62.1, 75.8, 79.1, 80.1, 2100, 75.4),
    ("HD-25", "HD-25"): (87.0, 63.6, 76.0, 80.3, 78.5, 2209, 74.9),
    ("HD-25", "HD-30"): (87.4, 64.6, 76.2, 79.4, 78.9, 2173, 74.3),
    ("HD-25 + 55", "HD-55"): (89.0, 69.3, 77.2, 81.0, 80.2, 2205, 76.2),
}
"""(training, inference) -> figures. Figure 5 and table 6."""

WITHOUT_OVERVIEW: Row = (78.1, 47.9, 71.2, 77.9, 75.1, 2019, 76.2)
"""HD-9. Table 7."""

WITHOUT_NEWLINE: dict[str, Row] = {
    "HD-9": (79.5, 50.3, 74.0, 78.2, 79.1, 2206, 75.9),
    "HD-25 + 55": (88.1, 67.4, 75.9, 80.4, 79.9, 2232, 76.4),
}
"""Table 8."""

MERGES: dict[str, Row] = {
    "concat": (89.0, 69.3, 77.2, 81.0, 80.2, 2205, 76.2),
    "c_abstractor": (88.6, 69.5, 77.1, 80.6, 80.4, 2236, 76.7),
    "resampler": (86.2, 67.1, 75.3, 78.8, 79.6, 2124, 74.2),
}
"""At the 4KHD setting. Table 9."""

ANYRES = "better than LLaVA-NeXT's layout at about the same number of image tokens (camera-ready, table 9; no figures)"
"""What is known of the camera-ready's table 9."""

COST = (
    "the number of tokens sets the time of the prefix, linearly, and hardly that of a further token "
    "(camera-ready, table 10; no figures)"
)
"""What is known of the camera-ready's table 10."""


def reading(row: Row) -> float:
    """Compute the mean over `READING`, per cent."""
    return sum(row[COLUMNS.index(name)] for name in READING) / len(READING)
