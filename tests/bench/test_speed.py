"""The arithmetic behind the shares, against torch's own counter; the rows of a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ixc.bench import machine, roofline, speed
from ixc.bench.report import line_fit, markdown
from ixc.bench.result import BenchResult, BenchRow, read
from ixc.bench.run import BenchOptions
from ixc.bench.subject import Subject
from ixc.core.tiling import partition
from ixc.errors import DataError, IxcError, UsageError
from ixc.inference.cost import plan
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.processing.image_io import open_image


def test_roofline_flops_of_a_prefill_are_those_torch_counts() -> None:
    subject = Subject(geometry="nano", layers=1)
    engine = subject.engine(32, device="cpu")
    engine.model.model.language_model.config._attn_implementation = (
        "eager"  # torch's counter does not know the CPU's fused attention
    )
    planned = plan(336, 336, hd=1, geometry=subject.sizes, text_tokens=0)
    count = planned.image_tokens
    embeds = torch.randn(1, count, subject.sizes.width)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        types = torch.ones(1, count, dtype=torch.long)
        engine.model(inputs_embeds=embeds, mm_token_type_ids=types, logits_to_keep=1)
    whole = roofline.prefill_flops(planned)
    # torch counts all of attention (QK and PV, not halved); ours the causal half
    assert whole + planned.flops()["attention"] == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_roofline_bytes_of_a_step_are_the_weights_a_decoder_reads() -> None:
    sizes = Subject(geometry="7b", layers=2).sizes
    assert roofline.step_bytes(sizes, bits=32, tokens=0) == 4 * (
        2 * sizes.matrices_per_layer + sizes.width * sizes.vocab
    )
    # two bfloat16 for 128 weights of half a byte: 4.25 bits
    four, whole = (roofline.step_bytes(sizes, bits=bits, tokens=0) for bits in (4, 32))
    assert four / whole == pytest.approx(4.25 / 32)


def test_line_fit_is_numpys() -> None:
    x = [1.0, 2.0, 3.0, 5.0]
    slope, start, r2 = line_fit(x, [3.0, 5.0, 7.0, 11.0])
    assert (slope, start, r2) == pytest.approx((2, 1, 1))
    assert line_fit(x, [3.0, 5.0, 6.0, 11.0])[2] == pytest.approx(np.corrcoef(x, [3.0, 5.0, 6.0, 11.0])[0, 1] ** 2)


def test_bench_result_add_replaces_older_figures(tmp_path: Path) -> None:
    def figure(value: float) -> BenchRow:
        return BenchRow(subject="s", section="bits", name="n", value=value, low=1, high=2, repeats=1, unit="s", bits=4)

    result = BenchResult(machine={"name": "m"}, rows=[figure(1.0)])
    result.add([figure(2.0)])
    result.write(tmp_path / "r.json")
    assert [row.value for row in read(tmp_path / "r.json").rows] == [2.0]
    (tmp_path / "r.json").write_text('{"rows": 3}')
    with pytest.raises(DataError, match="no result of ixc bench speed"):
        read(tmp_path / "r.json")


@pytest.mark.parametrize(
    "wrong", [{"only": ("phase",)}, {"hds": (2,)}, {"repeats": 0}], ids=["section", "setting", "repeats"]
)
def test_bench_options_refuse_wrong_values(wrong: dict) -> None:
    with pytest.raises(UsageError):
        BenchOptions(subject=Subject(), **wrong)


def test_subject_is_a_folder_or_a_geometry() -> None:
    for wrong in ({"geometry": "70b"}, {"geometry": "7b", "folder": Path()}, {"layers": 2}):
        with pytest.raises(IxcError):
            Subject(**wrong)


def test_speed_changed_screenshot_changes_two_tiles() -> None:
    width, height = speed.SIZES[55]
    part = partition(width, height, hd=55)
    pages = [open_image(speed.picture(55, changed=changed)) for changed in (False, True)]
    one, other = (tiles(resize_to_canvas(page, partition=part), tile=part.tile) for page in pages)
    assert (part.grid_h, part.grid_w) == (speed.ROWS, speed.COLUMNS)
    changed = [place for place in range(len(one)) if not np.array_equal(one[place], other[place])]
    assert changed == [row * speed.COLUMNS + column for column, row in speed.CHANGED]


def test_machine_peak_sees_short_allocations() -> None:
    with machine.peak(torch.device("cpu")) as most:
        torch.ones(1 << 24)
    assert 0.9 * (4 << 24) < most[0] < 2 * (4 << 24)


def test_product_rates_are_of_every_product_and_the_limit_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MATRIX", (64, 256, 4096))
    rates = machine.product_rates(torch.device("cpu"), tries=1)
    assert {"float32, torch", "bfloat16, torch"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
    monkeypatch.setattr(machine, "_rates", lambda runs, tries: {name: float(len(name)) for name in runs})
    assert set(machine._products(torch.device("cpu"), torch.float32)) >= {"torch"}
    best = max(len(name) for name in machine._products(torch.device("cpu"), torch.float32))
    assert machine.matrix_rate(torch.device("cpu"), torch.float32) == best


def test_markdown_names_the_rate_of_every_product() -> None:
    about = {
        "name": "m",
        "date": "d",
        "dtype": "float32",
        "torch": "1",
        "transformers": "2",
        "flops": 2e11,
        "read": 1e9,
    }
    assert "Products" not in markdown(BenchResult(machine=about, rows=[]), "p.svg")
    text = markdown(BenchResult(machine=about | {"products": {"float32, oneDNN": 2e11}}, rows=[]), "p.svg")
    assert "float32, oneDNN 200" in text
