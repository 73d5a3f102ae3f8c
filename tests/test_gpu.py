"""A GPU: the CPU's answers, and memory and speed of two layers at the widths of the 7B.

pytest -m gpu -s tests/test_gpu.py      # -s shows the figures
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
import torch

from ixc.bench import machine, speed
from ixc.bench.subject import Subject
from ixc.inference.cost import plan
from ixc.inference.engine import load

ROOT = Path(__file__).parents[1]
QUESTIONS = ("What is the title?", "What is the TOTAL?", "How much is Bagel?")
HD = 55

NEW_TOKENS = 32

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU (torch.cuda.is_available() is False)"),
]


def test_engine_on_a_gpu_gives_the_cpus_answers() -> None:
    """In float32 on both: sums in another order move logits by far less than the embedded model's margins."""
    picture = ROOT / "examples" / "receipt.png"
    on_cpu, on_gpu = (load(None, device=device, dtype="float32") for device in ("cpu", "cuda"))
    for question in QUESTIONS:
        wanted = on_cpu.ask([picture], question)
        assert on_gpu.ask([picture], question).text == wanted.text
        assert "".join(on_gpu.stream([picture], question)) == wanted.text


def test_subject_7b_widths_peak_memory_and_tokens_per_second() -> None:
    subject = Subject(geometry="7b", layers=2)
    device = torch.device("cuda")
    before = machine.resident(device)
    engine = subject.engine(32, device="cuda")
    weights = machine.resident(device) - before
    bench = speed.Bench(subject=subject, engine=engine, bits=32, hds=(HD,), hd=HD, repeats=1)
    width, height = speed.SIZES[HD]
    planned = plan(width, height, hd=HD, geometry=subject.sizes, dtype="bfloat16")
    assert weights == pytest.approx(planned.weight_bytes(), rel=0.02)

    inputs = bench.encode(speed.picture(HD), "?", HD)
    bench.steps(inputs, 2)  # kernels are chosen at the first call
    bench.clear_caches()
    with machine.peak(device) as most:
        first, *gaps = bench.steps(inputs, NEW_TOKENS)
    rate = 1 / median(gaps)
    print(
        f"\n{torch.cuda.get_device_name(device)}, bfloat16, {planned.image_tokens:,} image tokens: weights "
        f"{weights / 1e9:.2f} GB, peak above them {most[0] / 1e9:.2f} GB, first token {first:.3f} s, "
        f"{rate:.0f} tokens/s; all weights can be read {bench.limits()[1] / weights:.0f} times a second"
    )
    # No matrix of the whole sequence: `eager_scores_bytes`, 8.2 GB at HD-55, is what eager attention would add.
    assert planned.kv_bytes < most[0] < planned.eager_scores_bytes
    # A step reads the decoder's weights once; 2 layers and the head are 1.7 GB, some 100 steps a second at 200 GB/s.
    assert rate > 20
