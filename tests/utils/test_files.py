"""JSON objects that are read, and files that are written atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixc.errors import DataError, WeightsError
from ixc.utils.files import atomic_file, read_json_object


def test_read_json_object_reads_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_json_object(tmp_path / "a.json", remedy="fetch it again") == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, r"^no file .*a\.json; fetch it again$"),
        ("{", r"a\.json is not JSON \(.*\); fetch it again$"),
        ("\xff", r"a\.json is not JSON \(.*\); fetch it again$"),
        ("[1]", r"a\.json holds a list, a JSON object needed; fetch it again$"),
    ],
    ids=["missing", "broken", "latin-1", "list"],
)
def test_read_json_object_refuses_with_the_remedy(tmp_path: Path, content: str | None, line: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=line):
        read_json_object(path, remedy="fetch it again")
    with pytest.raises(WeightsError):
        read_json_object(path, error=WeightsError, remedy="fetch it again")


def test_atomic_file_leaves_the_old_content_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path) as draft:
            draft.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.json", "old")]
