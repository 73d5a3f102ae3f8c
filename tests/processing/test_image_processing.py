"""Opening pictures: every mode to RGB, every refusal in one line; and the image processor's contract."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ixc.core.tiling import RULES, TILE, partition
from ixc.errors import GeometryError, ImageError, IxcError, UsageError
from ixc.processing.canvas import resize_to_canvas, tiles
from ixc.processing.image_io import open_image, to_rgb
from ixc.processing.image_processing import IxcImageProcessorPil

RED, HALF_RED, PINK = (255, 0, 0), (255, 0, 0, 128), (255, 127, 127)


def png(image: Image.Image, **options: object) -> bytes:
    return encoded(image, "PNG", **options)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pixel(image: Image.Image) -> tuple[int, ...]:
    rgb = open_image(png(image)) if image.mode in {"RGB", "RGBA", "L", "LA", "P", "1", "I;16"} else to_rgb(image)
    assert rgb.mode == "RGB"
    value = rgb.getpixel((0, 0))
    assert isinstance(value, tuple)
    return value


# -- modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", HALF_RED, PINK),
        ("RGBA", (9, 9, 9, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("La", (0, 0), (255, 255, 255)),
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("HSV", (0, 255, 255), RED),
        ("I;16", 65_535, (255, 255, 255)),
        ("I;16", 32_768, (128, 128, 128)),
        ("I;16", 200, (1, 1, 1)),
        ("I;16B", 32_768, (128, 128, 128)),
        ("I", 65_535, (255, 255, 255)),
        ("I", 255, (255, 255, 255)),
        ("F", 0.5, (128, 128, 128)),
        ("F", 200.7, (200, 200, 200)),
        ("F", 65_535.0, (255, 255, 255)),
    ],
)
def test_to_rgb_of_every_mode(mode: str, value: object, expected: tuple[int, ...]) -> None:
    assert pixel(Image.new(mode, (2, 2), value)) == expected  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV"])
def test_to_rgb_without_transparency_equals_the_original(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))


def test_to_rgb_opaque_alpha_changes_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    noise[:, :, 3] = 255
    np.testing.assert_array_equal(np.asarray(to_rgb(Image.fromarray(noise))), noise[:, :, :3])


def test_to_rgb_lays_a_transparent_palette_on_white() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 1), 1)
    rgb = open_image(png(image, transparency=0))
    assert (rgb.getpixel((0, 0)), rgb.getpixel((1, 1))) == ((255, 255, 255), RED)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (10, 20, 30)), ("L", 10), ("I;16", 1000)])
def test_to_rgb_lays_a_transparent_colour_on_white(mode: str, colour: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (2, 2), colour)
    if mode == "I;16":
        image.info["transparency"] = colour
        assert to_rgb(image).getpixel((0, 0)) == (255, 255, 255)
    else:
        assert open_image(png(image, transparency=colour)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("value", "numbers"), [(70_000.0, "70000"), (-1.0, "-1"), (float("nan"), "nan")])
def test_to_rgb_refuses_greys_out_of_range(value: float, numbers: str) -> None:
    with pytest.raises(ImageError, match=rf"{numbers}.*65,535"):
        to_rgb(Image.new("F", (2, 2), value))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image_honours_exif_orientation(orientation: int) -> None:
    """Every orientation of the same scene comes out upright: red top left, blue bottom right."""
    upright = Image.new("RGB", (16, 24))
    upright.paste(RED, (0, 0, 8, 8))
    upright.paste((0, 0, 255), (8, 16, 16, 24))
    stored = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]
    turned = upright if stored is None else upright.transpose(Image.Transpose(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = open_image(png(turned, exif=exif))
    np.testing.assert_array_equal(np.asarray(rgb), np.asarray(upright))


def test_open_image_unreadable_exif_counts_as_none() -> None:
    image = Image.new("RGB", (4, 2), RED)
    image.info["exif"] = b"Exif\x00\x00II*\x00\xff\xff\xff\xff"
    assert to_rgb(image).size == (4, 2)


# -- opening -------------------------------------------------------------------------------------------------------


def test_open_image_path_bytes_and_file_agree(tmp_path: Path) -> None:
    data = png(Image.new("RGB", (3, 2), RED))
    path = tmp_path / "red.png"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        assert open_image(source).tobytes() == bytes(RED) * 6
    with path.open("rb") as file:
        open_image(file)
        assert not file.closed


def test_open_image_takes_the_first_picture_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    assert open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere/page.png", ["no file nowhere/page.png", "check the path"]),
        (b"", ["0 bytes", "empty"]),
        (b"%PDF-1.7 and so on", ["not a picture", "PNG"]),
        (claimed_png(60_001, 10), ["60,001 x 10", "60,000", "reduce"]),
        (claimed_png(11_000, 16_200), ["178,200,000", "178,000,000"]),
        (claimed_png(50_000, 50_000), ["2500000000", "178,000,000", "reduce"]),
        (claimed_png(50, 50), ["broken or cut short", "save"]),
        (claimed_png(0, 5), ["not a picture"]),
        (png(Image.new("RGB", (99, 99)))[:60], ["broken or cut short"]),
        (encoded(Image.effect_noise((99, 99), 50), "JPEG")[:900], ["broken or cut short"]),
    ],
    ids=["missing", "empty", "pdf", "long side", "too many", "bomb", "no pixels", "size 0", "cut png", "cut jpeg"],
)
def test_open_image_refusals_are_one_line(source: str | bytes, words: list[str]) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_open_image_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be opened"):
        open_image(tmp_path)


def test_open_image_reads_the_size_limit_from_the_header() -> None:
    """The pixels of this file are missing, so decoding would fail otherwise."""
    with pytest.raises(ImageError, match=r"100 x 100 = 10,000 px, at most 9,999"):
        open_image(claimed_png(100, 100), max_pixels=9_999)
    with pytest.raises(UsageError, match="max_pixels is 0"):
        open_image(b"", max_pixels=0)
    with pytest.raises(UsageError, match="178,000,000"):
        open_image(b"", max_pixels=178_000_001)


@given(
    st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF"]), st.integers(0, 400)
)
def test_open_image_damaged_files_never_crash(noise: bytes, kind: str, at: int) -> None:
    data = bytearray(encoded(Image.new("RGB", (20, 20), RED), kind))
    data[at : at + len(noise)] = noise
    with suppress(IxcError):
        assert open_image(bytes(data)).mode == "RGB"


# -- canvas --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 6), st.sampled_from(sorted(RULES)))
def test_resize_to_canvas_pads_with_white(width: int, height: int, hd: int, rule: str) -> None:
    part = partition(width, height, hd=hd, rule=rule) if max(width, height) <= 336 * min(width, height) * hd else None
    if part is None:
        return
    canvas = resize_to_canvas(Image.new("RGB", (width, height)), partition=part)
    x0, y0, x1, y1 = part.picture_box
    assert canvas.shape == (part.canvas_height, part.canvas_width, 3)
    assert not canvas[y0:y1, x0:x1].any()
    assert int((canvas == 255).sum()) == canvas.size - 3 * part.pixels_kept


def test_resize_to_canvas_native_leaves_the_pixels_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    part = partition(300, 400, hd=4, rule="native")
    x0, y0, x1, y1 = part.picture_box
    canvas = resize_to_canvas(Image.fromarray(noise), partition=part)
    np.testing.assert_array_equal(canvas[y0:y1, x0:x1], noise)


def test_resize_to_canvas_refuses_a_partition_of_another_size() -> None:
    with pytest.raises(GeometryError, match=r"4 x 5 px.*5 x 4.*own size"):
        resize_to_canvas(Image.new("RGB", (4, 5)), partition=partition(5, 4, hd=1))


def test_tiles_are_row_major() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    cut = tiles(canvas, tile=3)
    assert cut.shape == (6, 3, 3, 3)
    np.testing.assert_array_equal(cut[4].transpose(1, 2, 0), canvas[3:6, 3:6])


# -- processor -----------------------------------------------------------------------------------------------------


def test_image_processing_of_two_images() -> None:
    batch = IxcImageProcessorPil(hd=4)([Image.new("RGB", (100, 100)), Image.new("RGB", (300, 100))])
    assert batch["pixel_values"].shape == (4 + 3, 3, TILE, TILE)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["image_grids"].dtype == torch.int64
    assert batch["image_grids"].tolist() == [[2, 2], [1, 3]]


def test_image_processing_every_kind_of_image_gives_the_same() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    processor = IxcImageProcessorPil(hd=1)
    expected = processor(picture)["pixel_values"]
    chw = noise.transpose(2, 0, 1)
    data = png(picture)
    kinds = [[picture], [[picture]], noise, chw, noise[None], torch.from_numpy(chw.copy()), data, io.BytesIO(data)]
    for kind in kinds:
        torch.testing.assert_close(processor(kind)["pixel_values"], expected, rtol=0, atol=0)


def test_image_processing_grey_arrays_and_numpy_output() -> None:
    processor = IxcImageProcessorPil(hd=1)
    flat, deep = (processor(np.zeros(shape, np.uint8), return_tensors="np") for shape in ((9, 9), (9, 9, 1)))
    assert isinstance(flat["pixel_values"], np.ndarray)
    np.testing.assert_array_equal(flat["pixel_values"], deep["pixel_values"])


def test_image_processing_options_are_saved_and_can_be_given_per_call(tmp_path: Path) -> None:
    IxcImageProcessorPil(hd=9, partition="fit").save_pretrained(tmp_path)
    processor = IxcImageProcessorPil.from_pretrained(tmp_path)
    assert (processor.hd, processor.partition) == (9, "fit")
    assert (IxcImageProcessorPil().hd, IxcImageProcessorPil().partition) == (25, "original")
    image = Image.new("RGB", (336, 336))
    assert processor(image)["image_grids"].tolist() == [[3, 3]]
    assert processor(image, hd=4)["image_grids"].tolist() == [[2, 2]]
    assert processor(image, partition="native")["image_grids"].tolist() == [[1, 1]]
    assert processor.hd == 9


def test_image_processing_counts_agree_with_the_output() -> None:
    processor = IxcImageProcessorPil(hd=55)
    assert processor.get_number_of_image_patches(2160, 3840) == 54


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        ([], {}, ImageError, "0 images given"),
        (np.zeros((9, 9, 3), np.float32), {}, ImageError, "float32.*uint8"),
        (np.zeros((9, 9, 7), np.uint8), {}, ImageError, "9, 9, 7"),
        (np.zeros((0, 9, 3), np.uint8), {}, ImageError, "0, 9, 3"),
        (7, {}, ImageError, "a int is no image"),
        (Image.new("RGB", (9, 9)), {"do_resize": True, "size": 3}, UsageError, "do_resize, size: no such option"),
        (Image.new("RGB", (9, 9)), {"hd": 0}, GeometryError, "got 0"),
        (Image.new("RGB", (9, 9)), {"partition": "best"}, GeometryError, "'best'"),
    ],
)
def test_image_processing_refusals(images: object, options: dict, error: type[IxcError], words: str) -> None:
    with pytest.raises(error, match=words):
        IxcImageProcessorPil()(images, **options)
