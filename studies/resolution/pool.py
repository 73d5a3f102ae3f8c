"""Features of the frozen vision tower for every page at every setting, computed once and stored on disk.

    pool/SET/VIEW/FORM.npy        features (pages, 1 + h * w, 64, C) float16, the overview first
    pool/SET/VIEW/FORM.chars.npy  characters of each token and rows of its lines (pages, 1 + h * w, 16, SLOTS + 2) uint8

Features of a page at one setting serve all variants and seeds that use it, which cuts the cost of a step to a fifth.
"""

from __future__ import annotations

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
from ixc.utils.files import atomic_file
from studies.resolution import pages, views
from studies.resolution.views import View

AT_ONCE = 32  # tiles through the tower at once


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Pages for one purpose, the same number of every form."""

    name: str
    """Name of its folder."""
    first: int
    """Number of the first page, a multiple of `FORMS`."""
    each: int
    """Pages of a form."""
    sort: str | None = None
    """Key of `pages.SORTS` instead of each page's own; then only every second form is drawn."""

    @property
    def forms(self) -> range:
        """Forms of its pages."""
        return range(0, pages.FORMS, 2 if self.sort else 1)

    def page(self, form: int, index: int) -> DrawnPage:
        """Draw one of its pages."""
        return pages.draw(self.first + index * pages.FORMS + form, self.sort)

    def place(self, form: int, view: View) -> Partition:
        """Partition of its pages of a form at a setting."""
        return view.place(*pages.shape(form, self.sort))


def training(each: int) -> Collection:
    """Pages to train on."""
    return Collection(name="training", first=0, each=each)


def test(each: int) -> Collection:
    """Pages of the same two sorts that are in no training."""
    return Collection(name="test", first=10**8, each=each)


def test_8k(each: int) -> Collection:
    """Pages of twice the width and height."""
    return Collection(name="8k", first=2 * 10**8, each=each, sort="8k")


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Stored features of a collection at one setting."""

    root: Path
    """The output folder."""
    collection: Collection
    """The pages."""
    view: View
    """The setting."""

    @cached_property
    def folder(self) -> Path:
        """Folder of its files."""
        return self.root / "pool" / self.collection.name / self.view.name

    def missing(self) -> list[int]:
        """Forms without stored features."""
        return [form for form in self.collection.forms if not self._file(form).is_file()]

    @torch.inference_mode()
    def fill(self, tower: VisionTower) -> None:
        """Encode and store all pages that are missing."""
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
        """Read features (B, 1 + h * w, 64, C) float32, characters (B, 1 + h * w, 16, SLOTS), rows (.., 2) bool."""
        features = np.load(self._file(form), mmap_mode="r")[indices]
        chars = torch.from_numpy(np.load(self._file(form, ".chars"), mmap_mode="r")[indices]).long()
        return torch.from_numpy(features).float(), chars[..., :SLOTS], chars[..., SLOTS:] > 0

    def _file(self, form: int, what: str = "") -> Path:
        return self.folder / f"{form}{what}.npy"


def _write(path: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all. The features are written last, so their file marks a form as complete."""
    with atomic_file(path) as draft, open(draft, "wb") as file:
        np.save(file, array)
