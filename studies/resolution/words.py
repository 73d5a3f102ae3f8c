"""Text of docs/findings.md; every number in it is computed."""

from __future__ import annotations

from collections.abc import Mapping

from studies.resolution import pages, scale
from studies.resolution.results import Estimate, Run
from studies.resolution.variants import VARIANTS

Runs = Mapping[str, Mapping[int, Run]]


def cell(found: Estimate | None) -> str:
    """`71.2 ± 1.3`."""
    if found is None:
        return ""
    return f"{found.value:.1f}" + (f" ± {found.high - found.value:.1f}" if found.seeds > 1 else "")


def gap(found: Estimate | None) -> str:
    """`+4.1 ± 1.3`, in bold where the interval leaves zero out."""
    if found is None:
        return ""
    words = f"{found.value:+.1f}" + (f" ± {found.high - found.value:.1f}" if found.seeds > 1 else "")
    return f"**{words}**" if found.seeds > 1 and (found.low > 0 or found.high < 0) else words


def no_runs() -> list[str]:
    """Text of the page without runs."""
    return f"""# The paper's findings, tried again

Made by `python -m studies.resolution`; no figure is typed by hand. **None of the studies' own runs is
among the results**: {len(VARIANTS)} variants on tiles of {scale.TILE} px, three seeds each. Until they are, this page
holds what other measurements say.
""".splitlines()


def opening(runs: Runs) -> list[str]:
    """Text at the top of the page: method, pages, intervals."""
    count = sum(len(each) for each in runs.values())
    first = next(iter(next(iter(runs.values())).values()))
    recipe, start = first["recipe"], first["start"]
    full, small = pages.SORTS["full"], pages.SORTS["small"]
    vision, learner = scale.VISION, recipe["learner"]
    return f"""# The paper's findings, tried again

Made by `python -m studies.resolution` from the files in `studies/resolution/results`; no figure is typed by hand.

**What this is.** A scaled geometry: tiles of {scale.TILE} px instead of 336, each {scale.SIDE**2} tokens instead
of 144, so that HD-55 is some 900 tokens. Partition, layout, newline, separator, overview, merging and Partial LoRA
are the code of the real model. The tower is {vision.hidden_size} wide with {vision.num_hidden_layers} layers, the
language model {start["width"]} wide with {start["layers"]}. Both are trained once, as the paper starts
from CLIP and InternLM2: the tower on letters (it names {start["characters"]:.0%} of the characters of its last
training images, down to {scale.LEGIBLE[0]:.0f} px), the language model, begun from the embedded model's, on
these pages without pixels, with newlines, overview and the any-resolution order switched at random, so that it
favours no variant. From such glyph tokens it reads {start["curriculum"][-4]:.0%}, {start["curriculum"][-3]:.0%},
{start["curriculum"][-2]:.0%} and {start["curriculum"][-1]:.0%} of the answers at HD-9, 16, 25 and 55 (running means,
letters of {scale.LEGIBLE[0]:.0f} px and more as seen). The tower then stands still, unlike the paper's. Merge,
projector, newline and separator begin anew for every seed. {learner["fit_steps"]} steps teach them to name
characters (the same for all variants of one merge, on pages at HD-9, 25 and 55), then {learner["steps"]} steps
teach them and the language model to answer: {learner["pages"]} pages a step, {learner["questions"]} questions a
page. Every variant sees the same pages and questions in the same order.

**Pages.** Half of them have {full.area:,} px, what HD-55 shows, with letters of {full.letters[0]} to
{full.letters[1]} px (*full*); half have {small.area:,} px with letters of {small.letters[0]} to {small.letters[1]}
px (*small*); ten shapes from {pages.ASPECTS[0]} to {pages.ASPECTS[-1]} : 1. Items such as `K R T`, a key and two
letters, stand in ragged rows or even grids over two pale digits of half the page. Asked are the value of a key
(*value*), the last value in the row of a key (*row*), the value below a key (*below*) and the *large number*;
*text* is the first three. An answer is right if every character is.

**Intervals.** {count} runs of {len(runs)} variants out of {len(VARIANTS)}. A figure is the mean over seeds on
{recipe["test_each"] * pages.FORMS} pages that no training sees, with Student's 95 % interval over seeds; a difference
is taken seed by seed, and is bold where its interval leaves zero out. Seeds change the order of the data and what
begins anew, not the tower and language model of the start, so the intervals do not hold what another start would
change.
""".splitlines()


def closing(runs: Runs) -> list[str]:
    """Text at the end of the page: cost."""
    every = [run for each in runs.values() for run in each.values()]
    hours = sum(run["cpu_seconds"] for run in every) / 3600
    start = max((run["start"] for run in every), key=lambda s: sum(s["cpu_seconds"].values()))["cpu_seconds"]
    parts = ", ".join(f"{name.replace('_', ' ')} {seconds / 60:.0f} min" for name, seconds in start.items())
    return [
        "## Cost",
        "",
        f"The runs took {hours:.1f} h of one core, start and stored features {sum(start.values()) / 3600:.1f} h",
        f"({parts}), in CPU time",
        f"of one thread (torch {every[0]['recipe']['torch']}); time that was lost to a kill is not in it.",
        "`python -m studies.resolution` makes all of it again, and begins no finished run a second time.",
    ]
