"""The embedded model on real pages: packages of documents, windows of them, stage 1 (naming every character).

    python recipes/nano_pages.py fetch    CACHE              packages by apt-get download, unpacked, not installed
    python recipes/nano_pages.py pages    CACHE              PDFs -> pages of training and test packages
    python recipes/nano_pages.py windows  CACHE              pages and fonts -> shards of windows, ahead of the trainer
    python recipes/nano_pages.py train    CACHE --out RUN    stage 1, or on with it
    python recipes/nano_pages.py keep     RUN --out FOLDER   the state as small as it is kept in the repository

Every command goes on where it was stopped. Nothing of the documents is committed or shipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ixc
from ixc.model.config import IxcVisionConfig
from ixc.nano.config import PackageSplit, PagesRecipe
from ixc.nano.data.window_shards import ShardConfig
from ixc.nano.loop import LoopConfig, StepReport

HERE = Path(__file__).parent
KEPT = HERE.parent / "training" / "nano_pages"
"""State of earlier runs that is kept in the repository."""
WIDTH, LAYERS, HEAD = 256, 6, 32
"""Of the vision encoder: twice the shipped one's width."""


def recipe() -> PagesRecipe:
    """Stage 1 from the kept state, or from the embedded model's encoder where there is none."""
    shipped = Path(ixc.__file__).parent / "models" / "nano"
    return PagesRecipe(
        packages=PackageSplit(train={}, test={}, keep_out=HERE / "nano_pages_keep_out.txt"),
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
        loop=LoopConfig(steps=40_000, decay_from=30_000, seed=11, muon_lr=0.015, adam_lr=1.5e-3, warmup=60),
    )


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["train"])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from ixc.nano.pipeline import run

    def show(report: StepReport) -> None:
        if report.step % 20 == 0:
            scores = "".join(f", {name} {value:.3f}" for name, value in report.scores.items())
            print(f"step {report.step}, loss {report.loss:.3f}{scores}, {report.seconds:.1f} s", flush=True)

    run(recipe(), options.cache / "shards", options.out, watch=show)


if __name__ == "__main__":
    main()
