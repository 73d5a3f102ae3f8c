"""The embedded model on real pages: packages of documents, windows of them, stage 1 (naming every character).

    python recipes/nano_pages.py fetch CACHE       packages by apt-get download, unpacked, not installed
    python recipes/nano_pages.py pages CACHE       PDFs of training and test packages -> pages
    python recipes/nano_pages.py windows CACHE     pages and fonts -> shards of windows, ahead of the trainer
    python recipes/nano_pages.py train CACHE       stage 1 in CACHE/run, or on with it
    python recipes/nano_pages.py keep CACHE        the averaged weights into training/nano_pages

Every command goes on where it was stopped, by a kill too. `train` begins from the weights in training/nano_pages where
they are there, else from the embedded model's encoder. It runs beside other work on one core:

    OMP_NUM_THREADS=1 nice -n 19 python recipes/nano_pages.py train CACHE

Nothing of the documents is committed or shipped.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import ixc
from ixc.errors import IxcError
from ixc.model.configuration import IxcVisionConfig
from ixc.nano.config import PackageSplit, PagesRecipe
from ixc.nano.data.window_shards import ShardConfig
from ixc.nano.loop import LoopConfig, StepReport

HERE = Path(__file__).parent
KEPT = HERE.parent / "training" / "nano_pages"
"""State of earlier runs that is kept in the repository."""
WIDTH, LAYERS, HEAD = 256, 6, 32
"""Of the vision encoder: twice the shipped one's width."""


def packages() -> PackageSplit:
    """The lists of `nano_pages_packages.py`."""
    lists = runpy.run_path(str(HERE / "nano_pages_packages.py"))
    keep_out = HERE / "nano_pages_keep_out.txt"
    return PackageSplit(train=lists["TRAIN"], test=lists["TEST"], fonts=lists["FONTS"], keep_out=keep_out)


def recipe() -> PagesRecipe:
    """Stage 1 from the kept weights, or from the embedded model's encoder where there are none."""
    shipped = Path(ixc.__file__).parent / "pretrained" / "nano"
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
        init_from=KEPT if KEPT.is_dir() else shipped,
        shards=ShardConfig(seed=5),
        loop=LoopConfig(steps=60_000, decay_from=45_000, seed=11, muon_lr=0.015, adam_lr=1.5e-3, warmup=40),
        windows=8,
    )


def show(report: StepReport) -> None:
    """Every twentieth step as a line."""
    if report.step % 20 == 0:
        scores = "".join(f", {name} {value:.3f}" for name, value in report.scores.items())
        print(f"step {report.step}, loss {report.loss:.3f}{scores}, {report.seconds:.1f} s", flush=True)


def main() -> None:
    """The command line of this file."""
    from ixc.nano import pipeline

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = {
        "fetch": lambda cache: pipeline.fetch_packages(recipe(), cache),
        "pages": lambda cache: pipeline.build_pages(recipe(), cache),
        "windows": lambda cache: pipeline.build_windows(recipe(), cache, count=options.shards),
        "train": lambda cache: pipeline.run(recipe(), cache / pipeline.SHARDS, cache / pipeline.RUN, watch=show),
        "keep": lambda cache: pipeline.keep(recipe(), cache, KEPT),
    }
    parser.add_argument("command", choices=list(commands))
    parser.add_argument("cache", type=Path, help="Folder of packages, pages, windows and the run; up to 20 GB.")
    parser.add_argument("--shards", type=int, default=120, help="Files of 256 windows that `windows` builds.")
    options = parser.parse_args()
    try:
        commands[options.command](options.cache)
    except IxcError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
