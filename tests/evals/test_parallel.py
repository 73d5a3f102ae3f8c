"""Pages asked in several processes: the same cases in the same order, and errors that are told."""

import os
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from ixc.errors import DataError, UsageError
from ixc.evals import synthetic
from ixc.evals.parallel import ask_in_parallel


def length(image: Image.Image, question: str, hd: int) -> str:
    return f"{image.width} {len(question)} {hd}"


def lengths() -> synthetic.Answers:
    return length


def gone() -> synthetic.Answers:
    """Dies without a word, as one that runs out of memory does."""
    os._exit(9)


def refused() -> synthetic.Answers:
    raise UsageError("no such model; name another")


def test_ask_in_parallel_equals_one_process(tmp_path: Path) -> None:
    *_, alone = synthetic.run(length, count=7, kind="sign", hd=1)
    keep, parallel = tmp_path / "cases.jsonl", partial(ask_in_parallel, lengths, processes=3, kind="sign", hd=1)
    *_, _ = synthetic.run(length, count=2, kind="sign", hd=1, keep=keep)
    *numbers, beside = synthetic.run(None, parallel=parallel, count=7, kind="sign", hd=1, keep=keep)
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    assert isinstance(alone, synthetic.SyntheticReport)
    assert isinstance(beside, synthetic.SyntheticReport)
    assert beside.cases == alone.cases
    *_, again = synthetic.run(None, parallel=parallel, count=7, kind="sign", hd=1, keep=keep)
    assert again == alone


def test_ask_in_parallel_process_that_dies_is_one_line() -> None:
    with pytest.raises(DataError, match="fewer --processes"):
        list(ask_in_parallel(gone, range(3), processes=2))


def test_ask_in_parallel_passes_errors_of_loading_on() -> None:
    with pytest.raises(UsageError, match="no such model"):
        list(ask_in_parallel(refused, range(3), processes=2))
    with pytest.raises(UsageError, match="0 processes"):
        list(ask_in_parallel(lengths, range(3), processes=0))
