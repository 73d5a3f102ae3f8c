"""Peak memory of `ixc ask` on the largest pictures; writes benchmarks/picture_memory_202611.json.

    python dev/picture_memory.py [--only WORDS]

Pictures of 13,340 x 13,340 = 178 megapixels are drawn in a process of their own and asked about with the embedded
model, one process each; the kernel reports its peak of resident memory. The model's own is that of a small picture.
Exit code 1 where a picture takes more than `MOST_BYTES` beyond it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "picture_memory_202611.json"
SMALL = ROOT / "examples" / "receipt.png"
SIDE = 13_340
"""Pixels a side: 178 megapixels, the most that are read."""
MOST_BYTES = 1_500_000_000
"""Limit beyond the model's own memory."""

DRAWN = {
    "JPEG": ("rgb", ".jpg", "quality=85"),
    "JPEG, orientation 6": ("rgb", ".jpg", "quality=85, exif=turned"),
    "PNG, 16-bit grey": ("grey16", ".png", "compress_level=1"),
    "PNG, RGB": ("rgb", ".png", "compress_level=1"),
    "PNG, RGBA": ("rgba", ".png", "compress_level=1"),
    "PNG, RGBA, orientation 6": ("rgba", ".png", "compress_level=1, exif=turned"),
    "TIFF, CMYK": ("cmyk", ".tif", "compression='tiff_lzw'"),
    "GIF": ("grey", ".gif", ""),
    "JPEG 2000, tiles": ("rgb", ".jp2", "tile_size=(1024, 1024)"),
    "JPEG 2000, one tile": ("rgb", ".jp2", ""),
}
"""Name -> pixels, suffix, options of Pillow."""

DRAW = """
import sys
import numpy as np
from PIL import Image
kind, path, side = sys.argv[1], sys.argv[2], int(sys.argv[3])
exif = Image.Exif()
exif[274] = 6
turned = exif.tobytes()
row = np.linspace(0, 65535, side).astype(np.uint16)[None]
if kind == "grey16":
    image = Image.fromarray(np.repeat(row, side, axis=0))
else:
    bands = [np.repeat((row >> 8).astype(np.uint8), side, axis=0)]
    bands += [bands[0][:, ::-1], (np.arange(side) % 251).astype(np.uint8)[:, None].repeat(side, axis=1)]
    image = Image.merge("RGB", [Image.fromarray(np.ascontiguousarray(band)) for band in bands])
    if kind == "rgba":
        image.putalpha(200)
    elif kind != "rgb":
        image = image.convert({"grey": "L", "cmyk": "CMYK"}[kind])
"""


def asked(path: Path) -> tuple[int, float, str]:
    """Peak bytes of resident memory, CPU seconds and answer of `ixc ask`."""
    command = [sys.executable, "-m", "ixc", "ask", str(path), "What is the title?"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    if process.returncode:
        raise SystemExit(f"{path.name}: exit code {process.returncode}: {text}")
    return usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, text


def measured(name: str, folder: Path) -> dict[str, Any]:
    """One picture."""
    kind, suffix, options = DRAWN[name]
    path = folder / f"picture{suffix}"
    save = f"image.save(path, {options})" if options else "image.save(path)"
    subprocess.run([sys.executable, "-c", DRAW + save, kind, str(path), str(SIDE)], check=True)
    peak, seconds, _ = asked(path)
    row = {"name": name, "file_bytes": path.stat().st_size, "peak_bytes": peak, "cpu_seconds": round(seconds, 1)}
    path.unlink()
    return row


def main() -> int:
    """Measures all and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pictures whose name begins so; the others keep their figures")
    arguments = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() and arguments.only else {"rows": []}
    rows = {row["name"]: row for row in found["rows"]}
    own, seconds, _ = asked(SMALL)
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in DRAWN if name.startswith(arguments.only)):
            rows[name] = measured(name, Path(folder))
            rows[name]["above_bytes"] = rows[name]["peak_bytes"] - own
            print(name, f"{rows[name]['above_bytes'] / 1e9:.2f} GB above {own / 1e9:.2f} GB", flush=True)
    result = {
        "date": date.today().isoformat(),
        "pixels": SIDE * SIDE,
        "limit_bytes": MOST_BYTES,
        "versions": {name: version(name) for name in ("pillow", "torch", "numpy")},
        "model_peak_bytes": own,
        "model_cpu_seconds": round(seconds, 1),
        "rows": [rows[name] for name in DRAWN if name in rows],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(row["above_bytes"] > MOST_BYTES for row in result["rows"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
