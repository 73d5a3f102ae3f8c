"""The one decoder of data URLs: what clients write is read, and what cannot be decoded is refused with its place."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixc.utils.data_url import DataUrlError, decode_base64, decode_data_url, payload_start

SOURCE = Path(__file__).parents[2] / "src" / "ixc"
DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "url",
    {
        "plain": f"data:image/png;base64,{TEXT}",
        "no type": f"data:;base64,{TEXT}",
        "no type and no parameter": f"data:;BASE64,{TEXT}",
        "upper case": f"DATA:IMAGE/PNG;BASE64,{TEXT}",
        "a name": f"data:image/png;name=page.png;base64,{TEXT}",
        "a quoted name with a comma": f'data:image/png;name="a, b.png";charset=utf-8;base64,{TEXT}',
        "line breaks": "data:image/png;base64," + "\r\n".join(re.findall(".{1,76}", TEXT)) + "\n",
        "a blank behind the comma": f"data:image/png;base64, {TEXT}",
        "no padding": f"data:image/png;base64,{TEXT.rstrip('=')}",
        "padding too long": f"data:image/png;base64,{TEXT}==",
        "URL-safe letters": f"data:image/png;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        "both alphabets": f"data:image/png;base64,{TEXT.replace('+', '-', 1)}",
        "percent-encoded": f"data:image/png;base64,{TEXT.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
        "a type of a PDF": f"data:application/pdf;base64,{TEXT}",
    }.values(),
)
def test_decode_data_url_as_clients_write_it(url: str) -> None:
    assert decode_data_url(url) == DATA


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("page.png", "begins with data:"),
        ("data:image/png,abc", "begins with data:"),
        ("data:" + "a" * 500_000, "begins with data:"),
        ("data:image/png;" + "a=b;" * 100_000 + "base64,AAAA", "begins with data:"),
        ("data:image/png;base64,,AAAA", "',' at character 1 of 5"),
        ("data:image/png;base64,AA$$", r"'\$' at character 3 of 4"),
        ("data:image/png;base64,AAAA\nA?AA", r"'\?' at character 7 of 9"),
        ("data:image/png;base64,AA=A", "'=' at character 3 of 4"),
        ("data:image/png;base64,AAA\uff21", r"'\\uff21' at character 4 of 4"),
        ("data:image/png;base64,AAA\ud800", r"'\\ud800' at character 4 of 4"),
        ("data:image/png;base64,AAAAA", "5 characters is cut short"),
        ("data:image/png;base64,AAAA%", "'%' at character 5 of 5"),
        ("data:image/png;base64,AA%24A", "percent-encoded"),
    ],
)
def test_decode_data_url_says_where_it_cannot(url: str, message: str) -> None:
    with pytest.raises(DataUrlError, match=message) as caught:
        decode_data_url(url)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120


def test_payload_start_is_behind_the_comma() -> None:
    assert payload_start("data:;base64,AAAA") == len("data:;base64,")


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.integers(0, 80))
def test_decode_base64_inverts_every_encoder(data: bytes, safe: bool, padded: bool, width: int) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    if width:
        text = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    assert decode_base64(text) == data


@given(st.text(max_size=60))
def test_decode_base64_raises_nothing_else(text: str) -> None:
    with suppress(DataUrlError):
        decode_base64(text)


def test_decode_base64_is_the_only_decoder() -> None:
    decoders = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"b64decode\(|a2b_base64\(", path.read_text(encoding="utf-8"))
    ]
    assert decoders == ["utils/data_url.py"]
