"""A run of the embedded model's training on real pages is a Python function that returns one of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ixc.model.configuration import IxcTextConfig, IxcVisionConfig
from ixc.nano.data.page_folder import FolderConfig
from ixc.nano.data.typeset.folder import TypesetConfig
from ixc.nano.data.window_shards import ShardConfig
from ixc.nano.loop import LoopConfig
from ixc.nano.stages.page_lm import PageLmConfig
from ixc.nano.stages.page_reading import PageReadingConfig


@dataclass(frozen=True, kw_only=True)
class PackageSplit:
    """Packages of documents by name and version, apart for training and testing."""

    train: dict[str, str]
    test: dict[str, str]
    fonts: dict[str, str] = field(default_factory=dict)
    """Packages whose fonts images of text are drawn with."""
    keep_out: Path | None = None
    """List of documents that are used for neither."""


@dataclass(frozen=True, kw_only=True)
class PagesRecipe:
    """The embedded model on real pages: stage 1 names their characters, stage 2 reads them, stage 3 does both."""

    packages: PackageSplit
    vision: IxcVisionConfig
    init_from: Path | None
    """Model folder whose vision encoder is begun from, doubled in width where the recipe's is twice as wide."""
    shards: ShardConfig
    loop: LoopConfig
    train_pages: FolderConfig = field(default_factory=lambda: FolderConfig(pages_per_document=3, seed=1))
    test_pages: FolderConfig = field(default_factory=lambda: FolderConfig(pages_per_document=3, seed=2))
    typeset: TypesetConfig = field(default_factory=TypesetConfig)
    """Pages set with known keys and values."""
    windows: int = 12
    """Windows a step."""
    blank: float = 0.3
    """Weight of an empty slot in the loss."""
    sparse: float = 3.0
    """Most that a character counts where a window holds few."""
    text: IxcTextConfig | None = None
    """Language model of stage 2."""
    reading: LoopConfig | None = None
    """Training loop of stage 2."""
    page_lm: PageLmConfig = field(default_factory=PageLmConfig)
    """What stage 2 sees."""
    joint: LoopConfig | None = None
    """Training loop of stage 3."""
    page_reading: PageReadingConfig = field(default_factory=PageReadingConfig)
    """What stage 3 sees."""
    hd: int = 9
    """Default setting of the model folder that stage 3 gives."""
