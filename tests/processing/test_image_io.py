"""What a person sees is what the model sees: every file through every way in, its size known beforehand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.core.chat_format import Image as Part
from ixc.core.chat_format import Message
from ixc.data.encoding import Encoder
from ixc.data.records import parse_record
from ixc.errors import ImageError, ImageSizeError, MissingPackageError, UsageError
from ixc.inference import batch
from ixc.inference.engine import Engine, load
from ixc.processing import image_io
from ixc.processing.image_io import open_image, page_count, read_size, to_rgb
from ixc.processing.image_processing import IxcImageProcessorPil
from ixc.serving.image_input import ImageInput
from processing.picture_files import SAMPLES, Sample, encoded, exif, pages_tiff, sample, scene, stored

HD = 4


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


# -- pixels through every way in --------------------------------------------------------------------------------------


def _record(source: Any, engine: Engine) -> np.ndarray:
    talk = {
        "image": source,
        "conversations": [{"from": "user", "value": "<ImageHere>a"}, {"from": "assistant", "value": "b"}],
    }
    encoder = Encoder(engine.processor, max_seq_length=engine.context)
    found = encoder.encode(parse_record(talk, where="here", images=Path("/")), hd=HD)
    assert found.pixel_values is not None
    return found.pixel_values


def _url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _message(source: Any, engine: Engine) -> np.ndarray:
    messages = [{"role": "user", "content": [{"type": "image", "url": source}, {"type": "text", "text": "a"}]}]
    return engine.processor.encode(messages, hd=HD, return_tensors="np")["pixel_values"]


def _asked(source: Any, engine: Engine) -> np.ndarray:
    return engine.preparer.prepare([source], "a", hd=HD, max_new_tokens=1).inputs["pixel_values"].numpy()


def _evaluated(data: bytes, engine: Engine) -> np.ndarray:
    request = batch.BatchRequest(name="row 1", images=(data,), messages=(Message("user", (Part(0), "a")),), hd=HD)
    item = batch._item(engine, 0, request, engine.processor.image_processor.partition)
    return _tiles(next(segment.image.source for segment in item.segments if segment.image), engine)


def _tiles(source: Any, engine: Engine) -> np.ndarray:
    return engine.processor.image_processor(source, hd=HD, return_tensors="np")["pixel_values"]


def _with_pil(way: Callable[[Any, Engine], np.ndarray], path: Path, engine: Engine) -> np.ndarray:
    with Image.open(path) as image:
        return way(image, engine)


WAYS: dict[str, Callable[[Path, Engine], np.ndarray]] = {
    "path": lambda path, engine: _tiles(path, engine),
    "bytes": lambda path, engine: _tiles(path.read_bytes(), engine),
    "open file": lambda path, engine: _tiles(io.BytesIO(path.read_bytes()), engine),
    "PIL image": lambda path, engine: _with_pil(_tiles, path, engine),
    "opened and given again": lambda path, engine: _tiles(to_rgb(open_image(path)), engine),
    "message": lambda path, engine: _message(str(path), engine),
    "data URL": lambda path, engine: _message(_url(path), engine),
    "ask": lambda path, engine: _asked(path, engine),
    "ask with a PIL image": lambda path, engine: _with_pil(_asked, path, engine),
    "eval": lambda path, engine: _evaluated(path.read_bytes(), engine),
    "training": lambda path, engine: _record(str(path), engine),
    "training, data URL": lambda path, engine: _record(_url(path), engine),
    "training, table": lambda path, engine: _record({"bytes": path.read_bytes()}, engine),
    "server": lambda path, engine: _tiles(ImageInput().open([ImageInput().read(_url(path))])[0], engine),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAMPLES)
def test_open_image_shows_what_a_person_sees(name: str, way: str, engine: Engine, tmp_path: Path) -> None:
    made = sample(name)
    path = tmp_path / "picture"
    path.write_bytes(made.data)
    found, expected = WAYS[way](path, engine), _tiles(made.seen, engine)
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= made.most
    assert difference.mean() <= 2


# -- its size, beforehand ---------------------------------------------------------------------------------------------


def _planned(path: Path, engine: Engine) -> tuple[int, int]:
    del engine
    found = json.loads(CliRunner().invoke(app, ["plan", str(path), "--json"], catch_exceptions=False).stdout)
    return found["width"], found["height"]


def _checked(path: Path, engine: Engine) -> tuple[int, int]:
    talk = {"image": str(path), "conversations": [{"from": "user", "value": "<ImageHere>a"}]}
    talk["conversations"].append({"from": "assistant", "value": "b"})
    encoder = Encoder(engine.processor, max_seq_length=engine.context)
    return encoder.sizes(parse_record(talk, where="here", images=Path("/")))[0]


SIZES: dict[str, Callable[[Path, Engine], tuple[int, int]]] = {
    "header": lambda path, _: read_size(path),
    "header of bytes": lambda path, _: read_size(path.read_bytes()),
    "plan": _planned,
    "data check": _checked,
}


@pytest.mark.parametrize("way", SIZES)
@pytest.mark.parametrize("name", SAMPLES)
def test_read_size_is_that_of_the_result(name: str, way: str, engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(sample(name).data)
    assert SIZES[way](path, engine) == sample(name).seen.size == open_image(path).size


# -- single properties ------------------------------------------------------------------------------------------------


def test_to_rgb_leaves_the_callers_image_alone() -> None:
    image = Image.open(io.BytesIO(encoded(stored(6), "JPEG", exif=exif(6))))
    first, second = to_rgb(image), to_rgb(image)
    assert (image.size, image.info["exif"][:4], image.getexif()[0x0112]) == (stored(6).size, b"Exif", 6)
    assert first.size == second.size == scene().size
    assert first.info == {}
    assert to_rgb(first).tobytes() == first.tobytes()


def test_to_rgb_keeps_the_frame_it_is_given() -> None:
    with Image.open(io.BytesIO(pages_tiff())) as image:
        image.seek(1)
        assert to_rgb(image).tobytes() == stored(3).tobytes()
        assert image.tell() == 1


def test_open_image_published_is_what_the_original_decoded() -> None:
    """No orientation, no profile, no paper under transparency."""
    for name in ("jpeg exif 6", "adobe rgb", "png alpha", "grey 16 png", "png gamma"):
        data = sample(name).data
        with Image.open(io.BytesIO(data)) as image:
            assert open_image(data, published=True).tobytes() == image.convert("RGB").tobytes()
        assert to_rgb(open_image(data, published=True)).tobytes() == open_image(data, published=True).tobytes()


@pytest.mark.parametrize(("page", "orientation"), [(1, 1), (2, 3), (3, 2)])
def test_open_image_page_of_a_tiff(page: int, orientation: int) -> None:
    assert open_image(pages_tiff(), page=page).tobytes() == stored(orientation).tobytes()
    assert page_count(pages_tiff()) == 3
    with pytest.raises(UsageError, match="no page 4; use 1 to 3"):
        open_image(pages_tiff(), page=4)
    with pytest.raises(UsageError, match="no page 2; it has one"):
        read_size(sample("thumbnail first").data, page=2)


def test_open_image_sideways_orientation_in_xmp_is_ignored() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    for kind, options in (("JPEG", {"xmp": xmp}), ("TIFF", {"tiffinfo": {700: xmp}}), ("WEBP", {"xmp": xmp})):
        data = encoded(scene(), kind, **options)
        assert read_size(data) == open_image(data).size == scene().size


def test_open_image_decodes_large_jpegs_at_half_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(scene().resize((200, 100)), "JPEG")
    monkeypatch.setattr(image_io, "HALVED_ABOVE", 10_000)
    assert read_size(data) == open_image(data).size == (100, 50)
    monkeypatch.setattr(image_io, "HALVED_ABOVE", 2_000)
    assert read_size(data) == open_image(data).size == (50, 25)
    with pytest.raises(ImageSizeError, match="20,000 px, at most 10,000"):
        open_image(data, max_pixels=10_000)


@pytest.mark.parametrize("options", [{}, {"tile_size": (64, 32)}, {"no_jp2": True}])
def test_open_image_decodes_large_jpeg_2000s_at_half_their_size(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(scene().resize((201, 101)), "JPEG2000", **options)
    with Image.open(io.BytesIO(data)) as image:
        assert to_rgb(image).size == (201, 101)
    monkeypatch.setattr(image_io, "HALVED_ABOVE", 5_151)
    found = open_image(data)
    assert read_size(data) == found.size == (101, 51)
    small = np.asarray(scene().resize((101, 51), Image.Resampling.BOX))
    assert np.abs(np.asarray(found).astype(int) - small).mean() < 5
    monkeypatch.setattr(image_io, "HALVED_ABOVE", 2)
    with pytest.raises(ImageSizeError, match=r"201 x 101 px and \d smaller resolutions, of JPEG 2000 at most 2 px"):
        open_image(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image_turns_in_strips(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ixc.processing import color

    monkeypatch.setattr(color, "STRIP_PIXELS", 500)
    data = encoded(stored(orientation).convert("RGBA"), "PNG", exif=exif(orientation))
    assert open_image(data).tobytes() == scene().tobytes()


def test_to_rgb_converts_large_pictures_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    from ixc.processing import canvas, color, decoders

    names = (
        *("gif, small first frame", "grey 16 tiff, white is 0", "png alpha", "adobe rgb", "cmyk profile"),
        "grey 16 png, one clear",
    )
    whole = [open_image(sample(name).data).tobytes() for name in names]
    tall = scene().transpose(Image.Transpose.ROTATE_90)
    tiles = IxcImageProcessorPil(hd=4)(tall, return_tensors="np")["pixel_values"]
    monkeypatch.setattr(color, "STRIP_PIXELS", 500)
    monkeypatch.setattr(decoders, "STRIP_PIXELS", 50)
    monkeypatch.setattr(canvas, "STRIP_PIXELS", 500)
    assert [open_image(sample(name).data).tobytes() for name in names] == whole
    np.testing.assert_array_equal(IxcImageProcessorPil(hd=4)(tall, return_tensors="np")["pixel_values"], tiles)


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200])
def test_open_image_damaged_profile_changes_nothing(profile: bytes) -> None:
    assert open_image(encoded(scene(), "PNG", icc_profile=profile)).tobytes() == scene().tobytes()


def test_open_image_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    path = tmp_path / "photo.heic"
    heif.from_pillow(stored(6)).save(path, quality=-1, exif=exif(6))
    made = Sample(data=path.read_bytes(), seen=scene(), most=12)
    for source in (path, made.data):
        assert read_size(source) == open_image(source).size == scene().size
        assert np.abs(np.asarray(open_image(source)).astype(int) - np.asarray(made.seen)).max() <= made.most
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MissingPackageError, match=r"HEIC picture, .*pip install 'ixc-4khd\[heic\]'"):
        open_image(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing"),
        (b"\xc5\xd0\xd3\xc6" + b"\0" * 30, "an EPS drawing"),
        (b"\xd7\xcd\xc6\x9a" + b"\0" * 30, "a WMF drawing"),
        (b"\x01\0\0\0" + b"\0" * 36 + b" EMF", "an EMF drawing"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"AT&TFORM\0\0\0\0DJVU", "a DjVu document; convert it to PDF"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"PK\x03\x04rest", "an office document"),
        (b"<!DOCTYPE html><p>", "a web page; download the picture itself"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"\xff\x0a\0", "a JPEG XL picture"),
        (b"junk\n%PDF-1.4\n", "is a PDF, not a picture; ask about a page of it with FILE#1"),
        (b"qoif\0\0\0\1\0\0\0\1\3\0", "a QOI picture"),
    ],
)
def test_open_image_names_what_a_refused_file_is(data: bytes, words: str) -> None:
    for read in (open_image, read_size):
        with pytest.raises(ImageError, match="the picture") as caught:
            read(data)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_open_image_names_a_jpeg_of_twelve_bits() -> None:
    data = bytearray(encoded(scene(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="a JPEG of 12 bits a sample, 8 are read"):
        open_image(bytes(data))
