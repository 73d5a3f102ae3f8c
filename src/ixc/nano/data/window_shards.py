"""Windows ahead of time: files of 256 that a trainer reads without waiting.

    folder of pages, fonts --(seed, number)--> OUT/00012.npz

    pictures (bytes,) uint8   PNG files end to end, picture_ends (256,) int64
    classes (m,) int16, x, y (m,) int16 eighths of a pixel, size (m,) float16, ends (256,) int64
    sources (256,) str

A shard is written beside and renamed; a builder that is started again goes on with the first number that is missing.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from ixc.errors import DataError
from ixc.nano.data.page_files import page_numbers, read_pages
from ixc.nano.data.page_folder import DOCUMENTS, read_index
from ixc.nano.data.text_images import TextImageConfig, draw_text_window
from ixc.nano.data.windows import Window, WindowConfig, cut_windows
from ixc.utils.files import atomic_file

COUNT = 256
"""Windows of a shard."""


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """What a shard is made of."""

    seed: int = 0
    drawn: float = 0.25
    """Share of drawn images of text."""
    per_page: int = 12
    """Windows of a page."""
    window: WindowConfig = field(default_factory=WindowConfig)
    text_image: TextImageConfig = field(default_factory=TextImageConfig)


def build_shard(number: int, pages: list[Path], fonts: list[Path], config: ShardConfig) -> list[Window]:
    """Windows of a shard, shuffled."""
    rng = np.random.default_rng([config.seed, number])
    drawn = round(COUNT * config.drawn) if fonts else 0
    windows: list[Window] = []
    while len(windows) < COUNT - drawn:
        path = pages[int(rng.integers(len(pages)))]
        numbers = page_numbers(path)
        chosen = numbers[int(rng.integers(len(numbers)))]
        count = min(config.per_page, COUNT - drawn - len(windows))
        for page, facts in read_pages(path, [chosen]):
            windows.extend(cut_windows(page, rng, count, config.window, source=facts["package"]))
    windows.extend(draw_text_window(rng, fonts, config.text_image) for _ in range(drawn))
    return [windows[i] for i in rng.permutation(COUNT).tolist()]


def page_paths(folders: list[Path]) -> list[Path]:
    """Files of pages that folders hold by now, each package's share bounded by the square root of its documents.

    Raises:
        DataError: there are none.
    """
    found = [(folder / DOCUMENTS / o.file) for folder in folders for o in read_index(folder) if o.file]
    if not found:
        raise DataError(f"0 pages in {', '.join(map(str, folders))}; make some with ixc data pages")
    return found


def write_shards(
    out: Path, folders: list[Path], fonts: list[Path], config: ShardConfig, *, count: int
) -> Generator[int]:
    """Shards 0 to count - 1, those that are there left as they are; yields the number of each new one."""
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = out / f"{number:05d}.npz"
        if not path.exists():
            _save(path, build_shard(number, page_paths(folders), fonts, config))
            yield number


def _save(path: Path, windows: list[Window]) -> None:
    pictures = [_png(window.picture) for window in windows]
    with atomic_file(path) as draft, draft.open("wb") as file:
        np.savez(
            file,
            pictures=np.frombuffer(b"".join(pictures), np.uint8),
            picture_ends=np.cumsum([len(p) for p in pictures]),
            classes=np.concatenate([w.classes for w in windows]).astype(np.int16),
            x=np.round(np.concatenate([w.x for w in windows]) * 8).astype(np.int16),
            y=np.round(np.concatenate([w.y for w in windows]) * 8).astype(np.int16),
            size=np.concatenate([w.size for w in windows]).astype(np.float16),
            ends=np.cumsum([len(w.classes) for w in windows]),
            sources=np.array([w.source for w in windows]),
        )
        file.flush()
        os.fsync(file.fileno())


def _png(picture: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read_shard(path: Path) -> list[Window]:
    """Windows of a shard.

    Raises:
        DataError: not a whole shard.
    """
    try:
        with path.open("rb") as file, np.load(file) as a:
            arrays = {name: a[name] for name in a.files}
        ends, picture_ends = arrays["ends"], arrays["picture_ends"]
        return [_window(arrays, ends, picture_ends, i) for i in range(len(ends))]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path} is no shard of windows ({error}); delete it and build it again") from error


def _window(arrays: dict[str, np.ndarray], ends: np.ndarray, picture_ends: np.ndarray, i: int) -> Window:
    a, b = int(ends[i - 1]) if i else 0, int(ends[i])
    c, d = int(picture_ends[i - 1]) if i else 0, int(picture_ends[i])
    return Window(
        picture=np.asarray(Image.open(BytesIO(arrays["pictures"][c:d].tobytes()))),
        classes=arrays["classes"][a:b].astype(np.int64),
        x=arrays["x"][a:b].astype(np.float32) / 8,
        y=arrays["y"][a:b].astype(np.float32) / 8,
        size=arrays["size"][a:b].astype(np.float32),
        source=str(arrays["sources"][i]),
    )
