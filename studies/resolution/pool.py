"""What the tower sees of every page under every setting, looked at once and kept on disk; it never learns again.

    pool/SET/VIEW/FORM.npy        features (pages, 1 + h * w, 64, C) float16, the overview first
    pool/SET/VIEW/FORM.chars.npy  characters of each token and rows of its lines (pages, 1 + h * w, 16, SLOTS + 2) uint8

The features of a page under one setting serve all variants and seeds that use it, which makes a step cost a fifth.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ixc.core.tiling import Partition
from ixc.model.vision import VisionTower
from ixc.nano.data.glyph_tokens import SLOTS
from ixc.synth.page import DrawnPage
from studies.resolution import pages, views
from studies.resolution.views import View

AT_ONCE = 32  # pictures through the tower


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Pages of one purpose: the same number of every form."""

    name: str
    """Folder."""
    first: int
    """Number of the first page, a multiple of FORMS."""
    each: int
    """Pages of a form."""
    sort: str | None = None
    """Key of `pages.SORTS`, instead of each page's own; then only every second form is drawn."""

    @property
    def forms(self) -> range:
        """Forms it has."""
        return range(0, pages.FORMS, 2 if self.sort else 1)

    def page(self, form: int, index: int) -> DrawnPage:
        """One of its pages."""
        return pages.draw(self.first + index * pages.FORMS + form, self.sort)

    def place(self, form: int, view: View) -> Partition:
        """Where the tiles of its pages of a form go."""
        return view.place(*pages.shape(form, self.sort))


def training(each: int) -> Collection:
    """Pages to learn from."""
    return Collection(name="training", first=0, each=each)


def test(each: int) -> Collection:
    """Pages of the same two sorts that no training sees."""
    return Collection(name="test", first=10**8, each=each)


def test_8k(each: int) -> Collection:
    """Pages with twice the sides."""
    return Collection(name="8k", first=2 * 10**8, each=each, sort="8k")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A collection under one setting, on disk."""

    root: Path
    """The output folder."""
    collection: Collection
    """Which pages."""
    view: View
    """Which setting."""

    @cached_property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.root / "pool" / self.collection.name / self.view.name

    def missing(self) -> list[int]:
        """Forms that were not looked at yet."""
        return [form for form in self.collection.forms if not self._file(form).is_file()]

    @torch.inference_mode()
    def fill(self, tower: VisionTower) -> None:
        """Looks at all pages that are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for form in self.missing():
            place = self.collection.place(form, self.view)
            found = [self.collection.page(form, index) for index in range(self.collection.each)]
            seen = [torch.cat([tower(p) for p in views.shown(page, place).split(AT_ONCE)]) for page in found]
            _write(
                self._file(form, ".chars"), np.stack([views.written(page, place) for page in found]).astype(np.uint8)
            )
            _write(self._file(form), torch.stack(seen).half().numpy())

    def read(self, form: int, indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, 1 + h * w, 64, C) float32, characters (B, 1 + h * w, 16, SLOTS), rows (.., 2) bool."""
        features = np.load(self._file(form), mmap_mode="r")[indices]
        chars = torch.from_numpy(np.load(self._file(form, ".chars"), mmap_mode="r")[indices]).long()
        return torch.from_numpy(features).float(), chars[..., :SLOTS], chars[..., SLOTS:] > 0

    def _file(self, form: int, what: str = "") -> Path:
        return self.folder / f"{form}{what}.npy"


def _write(path: Path, array: np.ndarray) -> None:
    """Whole or not at all; the features, written last, say that a form is there."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(beside, array)
    os.replace(beside, path)
