"""Sections of `ixc bench speed`: measurements after a warm-up, repeated, and relative to the machine's limits.

phases    image -> preprocessing, vision encoder, prefill, decoding, for several HD
bits      tokens per second of quantised weights    second    a second question on the same image
changed   a screenshot with two changed tiles       beams     three beams against one
batch     tokens per second of a batch              memory    peak memory of a prefill beyond the weights
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
from PIL import Image, ImageDraw
from transformers import LogitsProcessor

from ixc.bench import machine, roofline
from ixc.bench.names import SIZES, UNQUANTIZED
from ixc.bench.result import BenchRow
from ixc.bench.subject import Subject
from ixc.inference.cost import ModelGeometry, Plan, plan
from ixc.inference.engine import Engine
from ixc.inference.sampling import GREEDY, Sampling
from ixc.model.generation import NeverSample
from ixc.processing.image_io import open_image

NEW_TOKENS = 16
"""Tokens decoded after the first."""

LIMIT_TRIES = 3
"""Runs of a limit before and after a measurement; the best of each counts, and shares refer to their mean."""

MIN_ALTERNATIONS = 5
"""Least number of alternations between weights of several bits."""

BATCHES = (1, 2, 4, 8)
"""Batch sizes."""

BEAMS = 3
"""Beam width of the published demo."""

MEMORY_HD = 55
"""Largest HD of the memory section: the 4K page."""

REPEAT_SECONDS = 60.0
"""Time limit of repeats: none is started that would exceed it."""

ROWS, COLUMNS = 6, 9
"""Tile grid of the 4K screen at HD-55; the image ends within the last tiles."""

CHANGED = ((2, 2), (5, 3))
"""(column, row) of the changed tiles; the change is in their middle, so resizing does not spread it to others."""

QUESTIONS = ("What is the total?", "Who signed it, and when?")
"""First and second question."""

Section = Callable[["Bench"], Iterator[BenchRow]]


class Clock(LogitsProcessor):
    """Record the time at which the logits of every new token are ready."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        machine.wait(self.device)
        self.times.append(perf_counter())
        return scores


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A loaded model with the settings of its measurement."""

    subject: Subject
    """Measured model."""
    engine: Engine
    """Engine loaded with `bits`."""
    bits: int
    """Bits of the decoder's weights."""
    hds: tuple[int, ...]
    """HD settings of the sweep."""
    hd: int
    """HD of the other sections."""
    repeats: int
    """Measurements per row, after a warm-up where it is cheap."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.engine.model.device

    @property
    def sizes(self) -> ModelGeometry:
        """Sizes of the model."""
        return self.subject.sizes

    def plan(self, hd: int) -> Plan:
        """Plan the cost of the image of an HD."""
        width, height = SIZES[hd]
        return plan(width, height, hd=hd, geometry=self.sizes, dtype="float32", text_tokens=len(QUESTIONS[0]))

    def clear_caches(self) -> None:
        """Clear the tile and prefix caches."""
        self.engine.generator.tiles.clear()
        self.engine.generator.prefixes.clear()

    def limits(self) -> tuple[float, float]:
        """Measure FLOP/s of a matrix product and memory bandwidth in bytes/s now: both drift on a shared machine."""
        product = machine.matrix_rate(self.device, self.engine.model.dtype, tries=LIMIT_TRIES)
        return product, machine.read_rate(self.device, tries=LIMIT_TRIES)

    def rounds(self) -> Iterator[int]:
        """Yield the number of each repeat: the first always, further ones while they fit `REPEAT_SECONDS`."""
        start = perf_counter()
        for number in range(self.repeats):
            if number and (perf_counter() - start) * (number + 1) / number > REPEAT_SECONDS:
                return
            yield number

    def row(self, section: str, name: str, values: Sequence[float], unit: str, **more: Any) -> BenchRow:
        """Build a row of this benchmark."""
        return BenchRow(
            subject=self.subject.name,
            section=section,
            name=name,
            value=median(values),
            low=min(values),
            high=max(values),
            repeats=len(values),
            unit=unit,
            bits=self.bits,
            **more,
        )

    def encode(self, picture: bytes, question: str, hd: int) -> dict[str, torch.Tensor]:
        """Encode a question about an image file, as a batch of one."""
        from ixc.core import chat_format

        turn = chat_format.Message("user", (chat_format.Image(open_image(picture)), question))
        return dict(self.engine.processor.encode([turn], hd=hd, partition="original", return_tensors="pt"))

    def never_stop(self) -> list[NeverSample]:
        """Return logits processors that suppress the stop tokens, at a cost independent of the vocabulary size."""
        ends = self.engine.model.generation_config.eos_token_id
        return [NeverSample(end) for end in (ends if isinstance(ends, list) else [ends]) if end is not None]

    def steps(self, inputs: Any, new: int, sampling: Sampling = GREEDY) -> list[float]:
        """Time the first token, and the gaps between tokens, seconds."""
        clock = Clock(self.device)
        machine.wait(self.device)
        start = perf_counter()
        self.engine.generate(
            inputs, max_new_tokens=new, sampling=sampling, logits_processor=[clock, *self.never_stop()]
        )
        times = [start, *clock.times]
        return [after - before for before, after in pairwise(times)]


def picture(hd: int, *, changed: bool = False) -> bytes:
    """Draw a page of text-like bars with no two equal tiles; `changed` alters two tiles of the 4K screen."""
    width, height = SIZES[hd]
    page = Image.new("RGB", (width, height), (252, 252, 250))
    pen = ImageDraw.Draw(page)
    for y in range(12, height - 12, 24):
        for x in range(12, width - 40, 48):
            long = 8 + (x * 7 + y * 13) % 30
            pen.rectangle((x, y, x + long, y + 9), fill=((x + y) % 90, (x * y) % 80, y % 70))
    if changed:
        for x, y in CHANGED:
            left, top = round((x + 0.4) * width / COLUMNS), round((y + 0.4) * height / ROWS)
            pen.rectangle((left, top, left + 40, top + 20), fill=(200, 0, 0))
    file = BytesIO()
    page.save(file, format="PNG", compress_level=1)
    return file.getvalue()


@torch.inference_mode()
def phases(bench: Bench) -> Iterator[BenchRow]:
    """Measure every phase of an answer, by HD, after a short warm-up."""
    bench.steps(bench.encode(picture(1), QUESTIONS[0], 1), 2)
    for hd in bench.hds:
        yield from _phases(bench, hd)


def _phases(bench: Bench, hd: int) -> list[BenchRow]:
    file, planned = picture(hd), bench.plan(hd)
    found: dict[str, list[float]] = {"preprocessing": [], "vision": [], "prefill": [], "step": []}
    before = bench.limits()
    for _ in bench.rounds():
        bench.clear_caches()
        start = perf_counter()
        inputs = bench.encode(file, QUESTIONS[0], hd)
        found["preprocessing"].append(perf_counter() - start)
        start = perf_counter()
        bench.engine.generator.encode_images(inputs)
        machine.wait(bench.device)
        found["vision"].append(perf_counter() - start)
        first, *rest = bench.steps(inputs, NEW_TOKENS + 1)
        found["prefill"].append(first)
        found["step"].append(median(rest))
    flops, read = ((a + b) / 2 for a, b in zip(before, bench.limits(), strict=True))
    more = {"hd": hd, "image_tokens": planned.image_tokens}
    total = [sum(each) for each in zip(found["preprocessing"], found["vision"], found["prefill"], strict=True)]
    needed = roofline.step_bytes(bench.sizes, bits=_bits(bench), tokens=planned.tokens, value_bytes=_size(bench))
    shares = {
        "vision": roofline.vision_flops(planned) / median(found["vision"]) / flops,
        "prefill": roofline.prefill_flops(planned) / median(found["prefill"]) / flops,
        "total": (roofline.vision_flops(planned) + roofline.prefill_flops(planned)) / median(total) / flops,
    }
    product = {"of": "matrix product"}
    return [
        bench.row("phases", "preprocessing", found["preprocessing"], "s", **more),
        bench.row("phases", "vision", found["vision"], "s", share=shares["vision"], **product, **more),
        bench.row("phases", "prefill", found["prefill"], "s", share=shares["prefill"], **product, **more),
        bench.row("phases", "time to first token", total, "s", share=shares["total"], **product, **more),
        bench.row(
            "phases", "time per token", [1e3 * value for value in found["step"]], "ms",
            share=needed / median(found["step"]) / read, of="memory read", **more,
        ),
    ]  # fmt: skip


def _bits(bench: Bench) -> int:
    return bench.bits if bench.bits != UNQUANTIZED else 8 * _size(bench)


def _size(bench: Bench) -> int:
    """Return the bytes of a cached number."""
    return torch.empty(0, dtype=bench.engine.model.dtype).element_size()


@torch.inference_mode()
def bits(benches: Sequence[Bench]) -> Iterator[BenchRow]:
    """Measure tokens per second of one model in several bits, in alternation, after a small and the usual image."""
    for hd in sorted({1, benches[0].hd}):
        yield from _bits_at(benches, hd)
    for bench in benches:
        weights = sum(v.nbytes for v in [*bench.engine.model.parameters(), *bench.engine.model.buffers()])
        yield bench.row("bits", "weights in memory", [weights / 1e9], "GB")


def _bits_at(benches: Sequence[Bench], hd: int) -> Iterator[BenchRow]:
    inputs = benches[0].encode(picture(hd), QUESTIONS[0], hd)
    found: list[list[float]] = [[] for _ in benches]
    for bench in benches:
        bench.clear_caches()
        bench.engine.generator.encode_images(inputs)
        bench.steps(inputs, 3)
    before = benches[0].limits()[1]
    for _ in range(max(MIN_ALTERNATIONS, benches[0].repeats)):
        for bench, times in zip(benches, found, strict=True):
            times.append(median(bench.steps(inputs, NEW_TOKENS + 1)[1:]))
    tokens, read = inputs["input_ids"].shape[1], (before + benches[0].limits()[1]) / 2
    for bench, times in zip(benches, found, strict=True):
        needed = roofline.step_bytes(bench.sizes, bits=_bits(bench), tokens=tokens, value_bytes=_size(bench))
        more: dict[str, Any] = {"hd": hd, "share": needed / median(times) / read, "of": "memory read"}
        yield bench.row("bits", "tokens per second", [1 / value for value in times], "tokens/s", **more)
        if bench.bits != UNQUANTIZED and benches[0].bits == UNQUANTIZED:
            ratios = [full / quantized for full, quantized in zip(found[0], times, strict=True)]
            yield bench.row("bits", "times the rate of 32 bits", ratios, "x", hd=hd)


def second(bench: Bench) -> Iterator[BenchRow]:
    """Measure a first and a second question on one image, from the file's bytes to the first token."""
    file, first, second_times = picture(bench.hd), [], []
    for _ in bench.rounds():
        bench.clear_caches()
        for question, found in zip(QUESTIONS, (first, second_times), strict=True):
            start = perf_counter()
            bench.engine.ask([file], question, hd=bench.hd, partition="original", max_new_tokens=1)
            found.append(perf_counter() - start)
    share = [b / a for a, b in zip(first, second_times, strict=True)]
    yield bench.row("second", "first question", first, "s", hd=bench.hd)
    yield bench.row("second", "second question", second_times, "s", hd=bench.hd)
    yield bench.row("second", "second of first", [100 * value for value in share], "%", hd=bench.hd)


@torch.inference_mode()
def changed(bench: Bench) -> Iterator[BenchRow]:
    """Measure the vision encoder on a 4K screenshot, and on the same with two changed tiles."""
    hd, first, second_times = 55, [], []
    files = [picture(hd), picture(hd, changed=True)]
    inputs = [bench.encode(file, QUESTIONS[0], hd) for file in files]
    tiles = [each["pixel_values"] for each in inputs]
    differ = int((tiles[0] != tiles[1]).flatten(1).any(1).sum())
    for _ in bench.rounds():
        bench.clear_caches()
        for given, found in zip(inputs, (first, second_times), strict=True):
            start = perf_counter()
            bench.engine.generator.encode_images(given)
            machine.wait(bench.device)
            found.append(perf_counter() - start)
    share = [100 * b / a for a, b in zip(first, second_times, strict=True)]
    yield bench.row("changed", f"vision, {len(tiles[0])} tiles", first, "s", hd=hd)
    yield bench.row("changed", f"vision, {differ} tiles changed", second_times, "s", hd=hd)
    yield bench.row("changed", "changed of first", share, "%", hd=hd)


@torch.inference_mode()
def beams(bench: Bench) -> Iterator[BenchRow]:
    """Measure prefill with one beam and with three."""
    inputs = bench.encode(picture(bench.hd), QUESTIONS[0], bench.hd)
    bench.engine.generator.encode_images(inputs)
    found: dict[int, list[float]] = {1: [], BEAMS: []}
    for _ in bench.rounds():
        for count, times in found.items():
            bench.engine.generator.prefixes.clear()
            times.append(bench.steps(inputs, 2, Sampling(num_beams=count))[0])
    for count, times in found.items():
        yield bench.row("beams", f"prefill, {count} beam{'s' * (count > 1)}", times, "s", hd=bench.hd)
    ratio = median(found[BEAMS]) / median(found[1])
    yield bench.row("beams", f"{BEAMS} beams of 1", [100 * ratio], "%", hd=bench.hd)


@torch.inference_mode()
def batch(bench: Bench) -> Iterator[BenchRow]:
    """Measure tokens per second of batches, after 64 tokens of text each."""
    for count in BATCHES:
        ids = torch.randint(3, 90, (count, 64), device=bench.device)
        found = []
        for _ in range(max(2, bench.repeats)):
            clock = Clock(bench.device)
            bench.engine.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False,
                logits_processor=[clock, *bench.never_stop()],
            )  # fmt: skip
            steps = [after - before for before, after in pairwise(clock.times)]
            found.append(count / median(steps))
        yield bench.row("batch", f"{count} side by side", found, "tokens/s")


@torch.inference_mode()
def memory(bench: Bench) -> Iterator[BenchRow]:
    """Measure peak memory of a prefill beyond weights and image features, against the KV cache and one layer."""
    small = bench.encode(picture(1), QUESTIONS[0], 1)
    bench.steps(small, 2)  # kernels allocate their workspace here
    yield from _memory(bench, min(bench.hds[-1], MEMORY_HD))


def _memory(bench: Bench, hd: int) -> list[BenchRow]:
    planned, inputs = bench.plan(hd), bench.encode(picture(hd), QUESTIONS[0], hd)
    bench.clear_caches()
    bench.engine.generator.encode_images(inputs)
    with machine.peak(bench.device) as most:
        bench.steps(inputs, 1)
    size = _size(bench)
    cache = planned.kv_bytes * size // 4
    layer = planned.tokens * (2 * bench.sizes.width + 3 * bench.sizes.mlp) * size
    more: dict[str, Any] = {"hd": hd, "image_tokens": planned.image_tokens}
    return [
        bench.row("memory", "most beyond weights and features", [most[0] / 1e9], "GB", **more),
        bench.row("memory", "keys and values", [cache / 1e9], "GB", **more),
        bench.row("memory", "activations of one layer", [layer / 1e9], "GB", **more),
        bench.row("memory", "most of (keys, values and one layer)", [most[0] / (cache + layer)], "x", **more),
    ]


SECTIONS: dict[str, Section] = {
    "phases": phases,
    "second": second,
    "changed": changed,
    "beams": beams,
    "batch": batch,
    "memory": memory,
}
"""Values of `--only` besides "bits"."""
