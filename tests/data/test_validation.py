"""Broken data: every kind is refused with one line that names file, line and remedy."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ixc.data.encoding import Encoder
from ixc.data.records import JsonLines, RecordError
from ixc.data.validation import check, usable
from ixc.errors import DataError
from ixc.processing.image_processing import IxcImageProcessorPil
from ixc.processing.processing import IxcProcessor
from ixc.processing.tokenization import character_tokenizer

GOOD = {
    "image": ["page.png"],
    "conversations": [{"from": "user", "value": "<ImageHere>Total?"}, {"from": "assistant", "value": "12.50"}],
}
LONG = "a long story " * 600


def png() -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 48), "white").save(out, "PNG")
    return out.getvalue()


def bomb() -> bytes:
    """A PNG whose header claims 50,000 x 50,000 px."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b"")]
    whole = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def talk(*turns: tuple[Any, Any], **extra: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **extra}


def chat(*turns: tuple[str, Any], **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": who, "content": content} for who, content in turns], **extra}


ASKED, ANSWERED = ("user", "Total?"), ("assistant", "12.50")
SEEN = ("user", "<ImageHere>Total?")

BROKEN: dict[str, tuple[Any, str, str]] = {
    "cut off": ('{"image": ["page.png"', "JSON", "write one whole object on one line"),
    "single quotes": ("{'conversations': []}", "JSON", "write one whole object on one line"),
    "a number": ("12", "not an object", "JSON object"),
    "a key twice": ('{"image": "a.png", "image": "b.png"}', "key twice", "keep one"),
    "Latin-1": (b'{"conversations": "caf\xe9"}', "not UTF-8", "save the file as UTF-8"),
    "nested too deep": ('{"a":' * 100_000, "JSON", "one flat object"),
    "no conversation": ({"image": ["page.png"], "text": "x"}, "no conversation", "add one of them"),
    "two conversations": ({**GOOD, "messages": []}, "two conversations", "keep one of them"),
    "no turns": ({"conversations": []}, "no turns", "at least 2 turns"),
    "turns as text": ({"conversations": "Total? 12.50"}, "no turns", "write a list"),
    "a turn as text": ({"conversations": ["Total?", "12.50"]}, "turn", "write from and value"),
    "a turn without value": ({"conversations": [{"from": "user"}]}, "turn", "no value; its keys are from; add"),
    "unknown speaker": (talk(ASKED, ("robot", "12.50")), "role", "write one of human, user, assistant"),
    "unknown role": (chat(("user", "Total?"), ("tool", "12.50")), "role", "take one of system, user, assistant"),
    "unknown part": (chat(("user", [{"type": "video"}]), ("assistant", "x")), "turn", "take text, image or image_url"),
    "a value of null": (talk(ASKED, ("assistant", None)), "text", "write a string"),
    "empty answer": (talk(ASKED, ("assistant", " \n")), "empty answer", "write it or delete the turn"),
    "empty question": (talk(("user", ""), ANSWERED), "empty question", "write it or delete the turn"),
    "half a character": (talk(ASKED, ("assistant", "a\ud800b")), "no text", "write the text in UTF-8"),
    "no answer": (talk(ASKED, ANSWERED, ("user", "And?")), "no answer", "end with an answer"),
    "answer first": (talk(ANSWERED, ASKED), "order", "the user first"),
    "two questions": (talk(ASKED, ASKED, ANSWERED), "order", "take turns"),
    "system in the middle": (talk(ASKED, ANSWERED, ("system", "Be brief"), ANSWERED), "order", "at most once"),
    "system text under quirks": (talk(("system", "Be brief"), ASKED, ANSWERED), "system turn", "first question"),
    "too few images": (talk(SEEN, ANSWERED), "placeholders", "write one place for each image"),
    "too many images": (talk(ASKED, ANSWERED, image=["page.png"]), "placeholders", "1 images; write one place"),
    "another placeholder": (
        talk(("user", "<image>Total?"), ANSWERED, image=["page.png"]),
        "placeholders",
        "replace <image> by <ImageHere>",
    ),
    "placeholder as text": (
        chat(("user", "<ImageHere>Total?"), ("assistant", "12.50")),
        "placeholder as text",
        'write the content as parts: "content": [{"type": "image"}, "the text"]',
    ),
    "image in an answer": (
        talk(ASKED, ("assistant", "<ImageHere>"), image=["page.png"]),
        "image in an answer",
        "put them into the user's turns",
    ),
    "image and images": ({**GOOD, "images": ["page.png"]}, "image and images", "delete one"),
    "image of null": (talk(SEEN, ANSWERED, image=[None]), "image path", "write the path of a file"),
    "image as number": (talk(SEEN, ANSWERED, image=7), "image path", "write the path of a file"),
    "an address": (talk(SEEN, ANSWERED, image="https://example.org/a.png"), "address", "download it"),
    "missing image": (talk(SEEN, ANSWERED, image="gone.png"), "image", "check the path"),
    "a folder": (talk(SEEN, ANSWERED, image="."), "image", "check the path"),
    "not a picture": (talk(SEEN, ANSWERED, image="notes.txt"), "image", "use PNG, JPEG, WebP or TIFF"),
    "an empty file": (talk(SEEN, ANSWERED, image="empty.png"), "image", "use PNG, JPEG, WebP or TIFF"),
    "a cut header": (talk(SEEN, ANSWERED, image="cut.png"), "image", "save or download it again"),
    "a bomb": (talk(SEEN, ANSWERED, image="bomb.png"), "image", "reduce the picture first"),
    "no base64": (talk(SEEN, ANSWERED, image="data:image/png;base64,@@"), "image", "encode it again"),
    "a line as picture": (talk(SEEN, ANSWERED, image="line.png"), "partition", "crop the image"),
    "answer beyond the context": (
        talk(("user", "<ImageHere>" + LONG), ANSWERED, image="page.png"),
        "answer beyond the context",
        "shorten the text",
    ),
    "beyond the context": (talk(ASKED, ("assistant", LONG)), "beyond the context", "shorten the text"),
    "beyond the context at this HD": (
        talk(("user", "<ImageHere>" * 3 + "Total?"), ANSWERED, image=["page.png"] * 3),
        "answer beyond the context",
        "use HD-8 or a longer context",
    ),
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    processor = IxcProcessor(IxcImageProcessorPil(hd=9), character_tokenizer(), published_quirks=True)
    return Encoder(processor, max_seq_length=4096)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Image.new("RGB", (640, 480), "white").save(folder / "page.png")
    Image.new("RGB", (9000, 1), "white").save(folder / "line.png")
    for name, data in {
        "notes.txt": b"no picture",
        "empty.png": b"",
        "cut.png": png()[:20],
        "bomb.png": bomb(),
        "half.png": png()[:60],
    }.items():
        (folder / name).write_bytes(data)
    return folder


def written(folder: Path, *records: Any) -> Path:
    path = folder / "data.jsonl"
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in records]
    path.write_bytes(b"\n".join(lines))
    return path


REMEDIES = {"add", "check", "crop", "delete", "download", "encode", "end", "keep", "let", "put", "reduce", "replace",
            "save", "shorten", "take", "use", "write"}  # fmt: skip
"""A message ends with one of these and what to do."""


def test_check_knows_at_least_thirty_kinds() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("name", BROKEN)
def test_check_names_kind_line_and_remedy(name: str, folder: Path, encoder: Encoder) -> None:
    broken, kind, remedy = BROKEN[name]
    path = written(folder, GOOD, broken, GOOD)
    report = check(JsonLines(path), encoder, hd=9)
    assert report.usable == [0, 2]
    [problem] = report.problems
    assert problem.kind == kind
    assert remedy in problem.message
    assert str(problem).startswith(f"{path} line 2: ")
    assert problem.message.rpartition("; ")[2].split()[0] in REMEDIES
    assert "\n" not in str(problem)
    with pytest.raises(DataError, match="1 of 3 records cannot be used"):
        usable(JsonLines(path), encoder, hd=9)
    assert usable(JsonLines(path), encoder, hd=9, skip=True) == [0, 2]


def test_check_pixels_broken_behind_a_whole_header(folder: Path, encoder: Encoder) -> None:
    data = JsonLines(written(folder, talk(SEEN, ANSWERED, image="half.png")))
    with pytest.raises(RecordError, match=r"data\.jsonl line 1: .*half\.png is broken or cut short"):
        encoder.encode(data[0], hd=9)


def test_json_lines_refuse_a_missing_or_empty_file(folder: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        JsonLines(folder / "gone.jsonl")
    (folder / "nothing.jsonl").write_bytes(b"\n \n")
    with pytest.raises(DataError, match="0 records, at least 1 needed"):
        JsonLines(folder / "nothing.jsonl")


def test_json_lines_broken_list_names_its_line(folder: Path) -> None:
    path = folder / "list.json"
    path.write_text("[\n" + json.dumps(GOOD) + ",\n{broken}\n]")
    with pytest.raises(RecordError, match=r"list\.json line 3: broken JSON"):
        JsonLines(path)


def test_check_pictures_inside_the_record(folder: Path, encoder: Encoder) -> None:
    address = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "Total?"}]
    data = JsonLines(written(folder, chat(("user", parts), ("assistant", "12.50"))))
    assert encoder.encode(data[0], hd=9).text.tiles == 9


def test_data_check_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ixc.cli.main import app

    path = written(folder, GOOD, talk(SEEN, ANSWERED, image="gone.png"))
    assert app(["data", "check", str(path), "--hd", "4"], standalone_mode=False) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{path} line 2: image 1: no file")
    assert out[2].startswith("2 records, 1 usable; 1 images")
    assert app(["data", "check", str(path), "--json"], standalone_mode=False) == 1
    assert json.loads(capsys.readouterr().out)["kinds"] == {"image": 1}
