"""How many characters of test packages the kept vision encoder names, as benchmarks/characters_nano_202611.json.

    python dev/characters.py CACHE --windows 220
    python dev/characters.py CACHE --windows 0 --lines 120

CACHE holds the test pages of `recipes/nano_pages.py pages`. Windows are taken from the packages in turn, without wear,
and named twice: as whole tiles of 336 px, and in quarters as in training. One thread, float32.
A result of the same weights is added to, one of other weights replaced.

A character counts as named where its slot of its patch says it. One without a slot (the fifth of a patch) cannot be
named; it is counted as not named, and `with_slot` tells how many have one. `--lines` reads that many single lines of
ASCII in em >= 16 px beside tesseract: character errors without spaces, the same crops.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ixc.evals.metrics.anls import edits
from ixc.nano.data.alphabet import NOTHING, text_of
from ixc.nano.data.page_files import page_numbers, read_pages
from ixc.nano.data.page_folder import DOCUMENTS, read_index
from ixc.nano.data.pdf_pages import TypesetPage
from ixc.nano.data.windows import SIDE, Window, WindowConfig, cut_windows, window_labels
from ixc.nano.pipeline import KEPT, NOTES, TEST, build_classifier
from ixc.nano.stages.vision_pretrain import QUARTER, TABLE, CharacterClassifier, VisionPretrain, normalised

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "characters_nano_202611.json"
SEED = 23
BUCKETS = (8, 12, 16, 20, 28)
"""Least em of each bucket in pixels; the last is open."""
PER_PAGE = 2
"""Windows of a page."""
FACES = {
    "typewriter": ("cmtt", "courier", "mono", "tt1", "sftt", "ectt", "cursor", "lmtt"),
    "computer modern": ("cmr", "cmbx", "cmti", "cmsl", "sfrm", "ecrm", "lmr", "sfbx", "sfti", "cmcsc"),
    "times": ("times", "nimbusrom", "ptm", "tex-gyre-termes", "termes", "liberationserif"),
    "helvetica": ("helvet", "arial", "nimbussan", "heros", "liberationsans"),
}
"""What the names of a family's faces hold."""


def pages(cache: Path, rng: np.random.Generator) -> Iterator[tuple[str, TypesetPage]]:
    """Test pages without end, one of each package in turn."""
    files: dict[str, list[Path]] = defaultdict(list)
    for outcome in read_index(cache / TEST):
        if outcome.file:
            files[outcome.package].append(cache / TEST / DOCUMENTS / outcome.file)
    while True:
        for package, found in sorted(files.items()):
            path = found[int(rng.integers(len(found)))]
            numbers = page_numbers(path)
            for page, _ in read_pages(path, [numbers[int(rng.integers(len(numbers)))]]):
                yield package, page


def windows(cache: Path, count: int) -> list[Window]:
    """So many windows of test pages."""
    rng, found = np.random.default_rng(SEED), []
    for package, page in pages(cache, rng):
        found.extend(cut_windows(page, rng, PER_PAGE, WindowConfig(), source=package))
        if len(found) >= count:
            return found[:count]
    return found


def coloured(picture: np.ndarray) -> np.ndarray:
    """(S, S) or (S, S, 3) -> (S, S, 3)."""
    return np.stack([picture] * 3, -1) if picture.ndim == 2 else picture.copy()


@torch.inference_mode()
def named_in_tiles(model: CharacterClassifier, window: Window) -> np.ndarray:
    """(n,) bool: the characters of a window that are named, the whole tile seen at once."""
    logits = model(normalised(coloured(window.picture)[None]))
    _, places = window_labels(window.classes, window.x, window.y)
    said = logits[0].argmax(-1).flatten().numpy()
    return (places >= 0) & (said[places] == window.classes)


@torch.inference_mode()
def named_in_quarters(model: CharacterClassifier, window: Window) -> np.ndarray:
    """The same in four quarters, each at its own place of the position table."""
    picture, table = coloured(window.picture), np.arange(TABLE * TABLE).reshape(TABLE, TABLE)
    named = np.zeros(len(window.classes), bool)
    corners = [(top, left) for top in (0, QUARTER) for left in (0, QUARTER)]
    parts = np.stack([picture[top : top + QUARTER, left : left + QUARTER] for top, left in corners])
    half = TABLE // 2
    seats = np.stack(
        [table[t : t + half, x : x + half].flatten() for t, x in ((0, 0), (0, half), (half, 0), (half, half))]
    )
    said = model(normalised(parts), torch.from_numpy(seats)).argmax(-1).flatten(1).numpy()
    for (top, left), one in zip(corners, said, strict=True):
        _, places = window_labels(window.classes, window.x - left, window.y - top, side=QUARTER)
        named |= (places >= 0) & (one[places] == window.classes)
    return named


def counted(model: CharacterClassifier, found: list[Window]) -> dict[str, Any]:
    """Characters by em and by package: how many, with a slot, named."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for window in found:
        slots = window_labels(window.classes, window.x, window.y)[1] >= 0
        whole, quarters = named_in_tiles(model, window), named_in_quarters(model, window)
        for i in np.flatnonzero(window.classes > 0).tolist():
            for row in (bucket(float(window.size[i])), "all", window.source):
                rows[row]["characters"] += 1
                rows[row]["with_slot"] += bool(slots[i])
                rows[row]["named"] += bool(whole[i])
                rows[row]["named_quarters"] += bool(quarters[i])
    order = [*(bucket(least) for least in BUCKETS), "below 8", "all"]
    by_em = {name: shares(rows.pop(name)) for name in order if name in rows}
    return {"windows": len(found), "by_em": by_em, "by_package": {name: shares(rows[name]) for name in sorted(rows)}}


def shares(row: Counter[str]) -> dict[str, float]:
    """Counts of a row, and the share of its characters that are named."""
    return dict(row) | {
        "share": round(row["named"] / row["characters"], 4),
        "share_quarters": round(row["named_quarters"] / row["characters"], 4),
    }


def bucket(em: float) -> str:
    """Name of the bucket of an em in pixels."""
    if em < BUCKETS[0]:
        return "below 8"
    i = int(np.searchsorted(BUCKETS, em, side="right")) - 1
    return f"{BUCKETS[i]}-{BUCKETS[i + 1]}" if i + 1 < len(BUCKETS) else f"{BUCKETS[i]}+"


def line_crops(cache: Path, count: int) -> Iterator[tuple[str, str, float, np.ndarray]]:
    """Family of faces, text without spaces, em and picture of single lines that fit into a tile, up to four a page."""
    rng, left = np.random.default_rng(SEED + 1), count
    for _, page in pages(cache, rng):
        glyphs, lines, taken = page.glyphs, page.lines, 0
        for number in rng.permutation(int(lines.line.max(initial=-1)) + 1).tolist():
            run = lines.order[lines.line[lines.order] == number]
            text, em = "".join(chr(int(c)) for c in glyphs.code[run]), float(np.median(glyphs.size[run]))
            named = {family(page.faces[int(f)]) for f in glyphs.face[run]}
            a, b, c, d = glyphs.tight[run, 0].min(), glyphs.loose[run, 1].min(), 0, glyphs.loose[run, 3].max()
            c = glyphs.tight[run, 2].max()
            fits = c - a + em < SIDE and d - b < 1.8 * em
            if len(named) > 1 or not all(named) or not text.isascii() or len(text) < 6 or em < 16 or not fits:
                continue
            x, y = max(0, int(a - em / 2)), max(0, int(b))
            yield named.pop(), text, em, page.picture[y : int(d) + 1, x : int(c + em / 2)]
            taken, left = taken + 1, left - 1
            if not left:
                return
            if taken == 4:
                break


def family(face: str) -> str:
    """Of `FACES`, or "" for another."""
    plain = face.lower().replace(" ", "")
    return next((name for name, parts in FACES.items() if any(part in plain for part in parts)), "")


@torch.inference_mode()
def read_line(model: CharacterClassifier, crop: np.ndarray) -> str:
    """What the encoder names on a tile of the crop's paper, in the row of patches that it says most characters of."""
    crop = coloured(crop)[:SIDE, :SIDE]
    tile = np.empty((SIDE, SIDE, 3), np.uint8)
    tile[:] = np.median(crop, (0, 1)).astype(np.uint8)
    top = (SIDE - crop.shape[0]) // 2
    tile[top : top + crop.shape[0], : crop.shape[1]] = crop
    said = model(normalised(tile[None]))[0].softmax(-1).unflatten(0, (TABLE, TABLE))
    row = (1 - said[..., NOTHING]).sum((1, 2)).argmax()
    return text_of(said[row].argmax(-1).flatten().numpy())


def read_tesseract(crop: np.ndarray) -> str:
    """What tesseract reads in single-line mode, with ten pixels of paper around."""
    picture = np.pad(coloured(crop), ((10, 10), (10, 10), (0, 0)), mode="edge")
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    command = ["tesseract", "stdin", "stdout", "--psm", "7", "-l", "eng"]
    done = subprocess.run(
        command, input=file.getvalue(), capture_output=True, check=True, env={"OMP_THREAD_LIMIT": "1"}
    )
    return "".join(done.stdout.decode().split())


def line_errors(model: CharacterClassifier, cache: Path, count: int) -> dict[str, Any]:
    """Character errors of single lines by family of faces, ours and tesseract's."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    sizes = []
    for name, text, em, crop in line_crops(cache, count):
        sizes.append(em)
        ours, theirs = edits(read_line(model, crop), text), edits(read_tesseract(crop), text)
        for row in (name, "all"):
            rows[row].update(lines=1, characters=len(text), ours=ours, tesseract=theirs)
    errors = {
        name: dict(row) | {f"{who}_rate": round(row[who] / row["characters"], 4) for who in ("ours", "tesseract")}
        for name, row in sorted(rows.items())
    }
    return {"em": [round(float(v), 1) for v in np.quantile(sizes, (0, 0.5, 1))], "by_face": errors}


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--windows", type=int, default=220)
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "training" / "nano_pages")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = replace(runpy.run_path(str(ROOT / "recipes" / "nano_pages.py"))["recipe"](), init_from=options.folder)
    model = build_classifier(recipe).eval()
    runs = json.loads((options.folder / NOTES).read_text())["runs"]
    run = [run for run in runs if run.get("stage", VisionPretrain.name) == VisionPretrain.name][-1]
    weights = hashlib.sha256((options.folder / KEPT).read_bytes()).hexdigest()[:16]
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    if result.get("weights") != weights:
        trained = {k: run[k] for k in ("began", "steps", "windows", "cpu_seconds", "running_means")}
        result = {"weights": weights, "trained": trained, "packages": recipe.packages.test}
    if options.windows:
        result["windows"] = timed(lambda: counted(model, windows(options.cache, options.windows)))
    if options.lines:
        result["lines"] = timed(lambda: line_errors(model, options.cache, options.lines))
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "packages"}, indent=1))


def timed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A measurement and its CPU seconds, those of tesseract too."""
    began = os.times()
    found, ended = measure(), os.times()
    return found | {"cpu_seconds": round(sum(ended[:4]) - sum(began[:4]), 1)}


if __name__ == "__main__":
    main()
