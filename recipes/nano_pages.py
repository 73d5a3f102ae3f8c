"""The embedded model on real pages: packages of documents, windows of them, stage 1 (naming every character),
stage 2 (a language model that reads the characters) and stage 3 (both on pictures).

    python recipes/nano_pages.py fetch CACHE       packages by apt-get download, unpacked, not installed
    python recipes/nano_pages.py pages CACHE       PDFs of training and test packages -> pages
    python recipes/nano_pages.py typeset CACHE     invoices, forms, tables and others set with the words of those pages
    python recipes/nano_pages.py windows CACHE     pages and fonts -> shards of windows, ahead of the trainer
    python recipes/nano_pages.py train CACHE       stage 1 in CACHE/run, or on with it
    python recipes/nano_pages.py read CACHE        stage 2 in CACHE/run, or on with it; needs `pages` only
    python recipes/nano_pages.py join CACHE        stage 3 in CACHE/run, or on with it; needs `pages` and kept weights
    python recipes/nano_pages.py keep CACHE        the averaged weights of each into training/nano_pages
    python recipes/nano_pages.py export CACHE      stage 3 as a model folder, CACHE/model

Every command goes on where it was stopped, by a kill too. `--steps N` makes a run of N steps whose rate is lower the
shorter it is and falls to zero over the last two thirds: what a few hours can finish, begun from the kept weights.
`train`, `read` and `join` begin from the weights in training/nano_pages where they are there, else from the embedded
model's. They run beside other work on one core:

    OMP_NUM_THREADS=1 nice -n 19 python recipes/nano_pages.py train CACHE

Nothing of the documents is committed or shipped.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import ixc
from ixc.errors import IxcError
from ixc.model.configuration import IxcTextConfig, IxcVisionConfig
from ixc.nano import page_lm_pipeline, page_reading_pipeline, pipeline
from ixc.nano.config import PackageSplit, PagesRecipe
from ixc.nano.data.window_shards import ShardConfig
from ixc.nano.loop import LoopConfig, StepReport
from ixc.nano.stages.page_lm import PageLmTask
from ixc.nano.stages.page_reading import PageReadingTask
from ixc.nano.stages.vision_pretrain import VisionPretrain
from ixc.processing.tokenization import PAGE_VOCABULARY

HERE = Path(__file__).parent
KEPT = HERE.parent / "training" / "nano_pages"
"""State of earlier runs that is kept in the repository."""
SHIPPED = Path(ixc.__file__).parent / "pretrained" / "nano"
WIDTH, LAYERS, HEAD = 256, 6, 32
"""Of the vision encoder: twice the shipped one's width."""


LM_WIDTH, LM_LAYERS = 256, 8
"""Of the language model: the shipped one has six layers."""


def packages() -> PackageSplit:
    """The lists of `nano_pages_packages.py`."""
    lists = runpy.run_path(str(HERE / "nano_pages_packages.py"))
    keep_out = HERE / "nano_pages_keep_out.txt"
    return PackageSplit(train=lists["TRAIN"], test=lists["TEST"], fonts=lists["FONTS"], keep_out=keep_out)


SHORT_RATE, FULL_RATE_STEPS = 0.4, 6000
"""Learning rates of the shortest run as a share of those of the whole one, and steps from which they are the same."""


def shortened(whole: LoopConfig, steps: int | None) -> LoopConfig:
    """A run of so many steps from weights that are trained already; None: the whole run."""
    if steps is None:
        return whole
    share = min(1.0, SHORT_RATE + (1 - SHORT_RATE) * steps / FULL_RATE_STEPS)
    rates = {"muon_lr": share * whole.muon_lr, "adam_lr": share * whole.adam_lr}
    return replace(whole, steps=steps, decay_from=steps // 3, warmup=min(whole.warmup, steps // 10 + 1), **rates)


def recipe(steps: int | None = None) -> PagesRecipe:
    """Stage 1 from the kept weights, or from the embedded model's encoder where there are none.

    Args:
        steps: of a short run (`shortened`); None: the whole one.
    """
    return PagesRecipe(
        packages=packages(),
        vision=IxcVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_attention_heads=WIDTH // HEAD,
            num_hidden_layers=LAYERS,
            image_size=336,
            patch_size=14,
            hidden_act="quick_gelu",
        ),
        init_from=KEPT if KEPT.is_dir() else SHIPPED,
        shards=ShardConfig(seed=5),
        loop=shortened(
            LoopConfig(steps=60_000, decay_from=45_000, seed=11, muon_lr=0.015, adam_lr=1.5e-3, warmup=40), steps
        ),
        windows=8,
        text=IxcTextConfig(
            hidden_size=LM_WIDTH,
            intermediate_size=704,
            num_attention_heads=LM_WIDTH // HEAD,
            num_key_value_heads=LM_WIDTH // HEAD,
            num_hidden_layers=LM_LAYERS,
            vocab_size=len(PAGE_VOCABULARY),
            plora_r=8,
            plora_alpha=8,
            plora_qkv_r=8,
            plora_qkv_alpha=16,
        ),
        reading=shortened(
            LoopConfig(steps=40_000, decay_from=28_000, seed=12, muon_lr=0.01, adam_lr=1.5e-3, warmup=60), steps
        ),
        joint=shortened(
            LoopConfig(steps=20_000, decay_from=12_000, seed=13, muon_lr=0.005, adam_lr=7e-4, warmup=60), steps
        ),
    )


def read_from() -> Path:
    """Stage 2 begins from the kept weights, or from the embedded model's decoder where there are none."""
    return KEPT if (KEPT / page_lm_pipeline.KEPT).is_file() else SHIPPED


def show(report: StepReport) -> None:
    """Every twentieth step as a line."""
    if report.step % 20 == 0:
        scores = "".join(f", {name} {value:.3f}" for name, value in report.scores.items())
        print(f"step {report.step}, loss {report.loss:.3f}{scores}, {report.seconds:.1f} s", flush=True)


def keep(cache: Path) -> None:
    """What the cache's runs have learned."""
    run = cache / pipeline.RUN
    if (run / f"{VisionPretrain.name}.pt").is_file():
        pipeline.keep(recipe(), cache, KEPT)
    if (run / f"{PageLmTask.name}.pt").is_file():
        page_lm_pipeline.keep_page_lm(recipe(), cache, KEPT)
    if (run / f"{PageReadingTask.name}.pt").is_file():
        page_reading_pipeline.keep_page_reading(recipe(), cache, KEPT)


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = {
        "fetch": lambda cache: pipeline.fetch_packages(recipe(), cache),
        "pages": lambda cache: pipeline.build_pages(recipe(), cache),
        "typeset": lambda cache: pipeline.build_typeset(recipe(), cache, count=options.typeset),
        "windows": lambda cache: pipeline.build_windows(recipe(), cache, count=options.shards),
        "train": lambda cache: pipeline.run(
            recipe(options.steps), cache / pipeline.SHARDS, cache / pipeline.RUN, watch=show
        ),
        "read": lambda cache: page_lm_pipeline.run_page_lm(recipe(options.steps), read_from(), cache, watch=show),
        "join": lambda cache: page_reading_pipeline.run_page_reading(recipe(options.steps), KEPT, cache, watch=show),
        "keep": keep,
        "export": lambda cache: page_reading_pipeline.export_reader(recipe(), cache, cache / "model"),
    }
    parser.add_argument("command", choices=list(commands))
    parser.add_argument("cache", type=Path, help="Folder of packages, pages, windows and the run; up to 20 GB.")
    parser.add_argument("--shards", type=int, default=120, help="Files of 256 windows that `windows` builds.")
    parser.add_argument("--typeset", type=int, default=200, help="Files of 16 documents that `typeset` sets.")
    parser.add_argument("--steps", type=int, help="Steps of a short run of `train`, `read` or `join`.")
    options = parser.parse_args()
    try:
        commands[options.command](options.cache)
    except IxcError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
