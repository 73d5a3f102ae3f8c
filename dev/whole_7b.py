"""Measure the memory of the whole 7B in 4 bits, with random weights at true widths and depth.

    python dev/whole_7b.py FOLDER HD [LAYERS]

FOLDER is written if it does not exist (6 GB), then loaded like any other by a process of its own, which answers one
question on one image. Prints one JSON line; the peak is that process's VmHWM, mapped files included.
"""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

BITS = 4
NEW_TOKENS = 8


def write(folder: Path, layers: int | None) -> None:
    """Write a model with random weights, in 4 bits from the start."""
    from ixc.bench.subject import Subject
    from ixc.model.quantization.layers import Quantization

    engine = Subject(geometry="7b", layers=layers).engine(BITS, device="cpu")
    engine.model.config.quantization_config = Quantization(bits=BITS, half="bfloat16").as_dict()
    engine.model.save_pretrained(folder)
    engine.processor.save_pretrained(folder)


def resident(what: str) -> int:
    """Return bytes of this process: VmHWM (peak so far), RssAnon or RssFile (now)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def answer(folder: Path, hd: int) -> dict[str, Any]:
    """Load the folder, answer one question, return times and memory."""
    import torch

    from ixc.bench.speed import QUESTIONS, picture
    from ixc.core import chat_format
    from ixc.inference.engine import load
    from ixc.processing.image_io import open_image

    start = perf_counter()
    engine = load(folder, device="cpu")
    loaded, after_load = perf_counter() - start, resident("VmHWM")
    turn = chat_format.Message("user", (chat_format.Image(open_image(picture(hd))), QUESTIONS[0]))
    inputs = dict(engine.processor.encode([turn], hd=hd, partition="original", return_tensors="pt"))
    start = perf_counter()
    tokens = engine.generate(inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    sizes = [tensor.nbytes for tensor in [*engine.model.parameters(), *engine.model.buffers()]]
    return {
        "hd": hd,
        "bits": BITS,
        "layers": len(engine.model.model.language_model.layers),
        "prompt_tokens": inputs["input_ids"].shape[1],
        "new_tokens": tokens.shape[-1] if tokens.shape[-1] <= NEW_TOKENS else NEW_TOKENS,
        "weights_gb": sum(sizes) / 1e9,
        "loaded_s": loaded,
        "answered_s": perf_counter() - start,
        "most_after_loading_gb": after_load / 1e9,
        "most_gb": resident("VmHWM") / 1e9,
        "of_it_file_gb": resident("RssFile") / 1e9,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Write the folder if needed, then measure in a fresh process."""
    folder, hd = Path(sys.argv[1]), int(sys.argv[2])
    if sys.argv[-1] == "--answer":
        print(json.dumps(answer(folder, hd)))
        return
    if not folder.exists():
        write(folder, int(sys.argv[3]) if len(sys.argv) > 3 else None)
    subprocess.run([sys.executable, __file__, str(folder), str(hd), "--answer"], check=True)


if __name__ == "__main__":
    main()
