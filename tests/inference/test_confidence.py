"""Confidence in answers: log probabilities of every way to answer, calibration files, damaged ones."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import ixc
from ixc.errors import WeightsError
from ixc.inference.confidence import FILE, Calibration, confidence, read_calibration
from ixc.inference.engine import load
from ixc.inference.query import Query
from ixc.inference.standalone import open_folder

NUMBERS = {"bias": 1.0, "total": 0.5, "least": 2.0}


def test_confidence_without_calibration_is_the_probability_of_the_answer() -> None:
    assert confidence([math.log(0.5), math.log(0.8)], None) == 0.4
    assert confidence([], None) is None


def test_confidence_calibrated_is_a_logistic_function_of_sum_and_least() -> None:
    found = confidence([-0.2, -0.6], Calibration(**NUMBERS))
    assert found == round(1 / (1 + math.exp(-(1 - 0.5 * 0.8 - 2 * 0.6))), 4)
    assert confidence([-1e6], Calibration(**NUMBERS)) == 0
    assert confidence([-0.0], Calibration(bias=1e6, total=0, least=0)) == 1


def test_confidence_is_that_of_the_whole_sequence_read_at_once(tiny_folder: Path, page: Path) -> None:
    engine = load(tiny_folder, device="cpu")
    answer = engine.ask([page], "Title?", hd=2, max_new_tokens=4)
    request = engine.preparer.prepare([page], "Title?", hd=2, max_new_tokens=4)
    with torch.inference_mode():
        output = engine.model.generate(**request.inputs, max_new_tokens=4, do_sample=False)
        new = output.shape[1] - request.prompt_tokens
        scores = engine.model.generate(
            **request.inputs, max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True
        ).logits
    chosen = output[0, -new:]
    total = sum(float(row[0].float().log_softmax(-1)[token]) for row, token in zip(scores, chosen, strict=True))
    assert answer.confidence == pytest.approx(math.exp(total), abs=1e-4)


def test_confidence_is_the_same_alone_in_a_batch_and_standalone(page: Path) -> None:
    engine = ixc.load(device="cpu")
    queries = [Query([page], "What is the title?"), Query([page], "How many?"), Query([], "What?")]
    alone = [engine.answer(each) for each in queries]
    for one, other in zip(alone, engine.batch(queries), strict=True):
        assert one.text == other.text
        assert other.confidence == pytest.approx(one.confidence, abs=2e-3)
    small = open_folder(Path(ixc.__file__).parent / "pretrained" / "nano")
    assert small is not None
    request = small.prepare(queries[0])
    assert small.load(device="cpu")
    assert small.answer(request).confidence == pytest.approx(alone[0].confidence, abs=2e-3)
    assert engine.ask([page], "What is the title?", sampling=ixc.Sampling(num_beams=2)).confidence is None


def test_confidence_of_a_sampled_answer_is_before_temperature(page: Path) -> None:
    engine = ixc.load(device="cpu")
    plain = engine.ask([page], "What is the title?")
    sharp = ixc.Sampling(do_sample=True, temperature=0.01, seed=1)
    sampled = engine.ask([page], "What is the title?", sampling=sharp)
    assert sampled.text == plain.text
    assert sampled.confidence == pytest.approx(plain.confidence, abs=1e-4)


def test_read_calibration_is_used_by_both_engines(tmp_path: Path, page: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(Path(ixc.__file__).parent / "pretrained" / "nano", folder)
    (folder / FILE).write_text(json.dumps({"bias": -60.0, "total": 0.0, "least": 0.0, "questions": 3}))
    assert load(folder, device="cpu").ask([page], "What is the title?").confidence == 0
    small = open_folder(folder)
    assert small is not None
    request = small.prepare(Query([page], "What is the title?"))
    assert small.load(device="cpu")
    assert small.answer(request).confidence == 0


@pytest.mark.parametrize("text", ["", "[]", '{"bias": 1}', '{"bias": NaN, "total": 1, "least": 1}', '{"bias": "x"}'])
def test_read_calibration_refuses_a_damaged_file(tmp_path: Path, text: str) -> None:
    assert read_calibration(tmp_path) is None
    (tmp_path / FILE).write_text(text)
    with pytest.raises(WeightsError, match="is no calibration"):
        read_calibration(tmp_path)
