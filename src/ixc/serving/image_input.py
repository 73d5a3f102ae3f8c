"""Images of a request: from a URL to an RGB picture, with a limit on everything.

    data URL --decode--|
    http(s)  --fetch---+--> bytes --format, size in the header--> picture, upright, RGB
                             `--a PDF, in a process of its own--> its pages, RGB

The size is read from the file's header before a pixel is decoded. Only `image_formats.FORMATS` are accepted, by the
bytes and not by the MIME type of a data URL, which clients often set wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from ixc.errors import ImageError, ImageSizeError, IxcError
from ixc.processing.image_formats import HEAD_BYTES, format_of, refusal
from ixc.processing.image_io import open_image, read_size
from ixc.processing.pdf import DPI
from ixc.processing.pdf_process import PdfProcess
from ixc.serving.errors import ApiError, quote
from ixc.serving.fetch import Fetcher
from ixc.utils.data_url import DataUrlError, decode_base64, payload_start

if TYPE_CHECKING:
    from PIL.Image import Image

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a request. Whatever is larger is refused with both numbers."""

    max_body_bytes: int = 64 * MIB
    """Most bytes of a request."""
    max_bodies_bytes: int = 256 * MIB
    """Most bytes of requests being read at one time."""
    body_seconds: float = 30.0
    """Longest time a request may take to arrive."""
    max_images: int = 16
    """Most images of a request."""
    max_image_bytes: int = 32 * MIB
    """Most bytes of an image, as a file."""
    max_pixels: int = 50_000_000
    """Most pixels of an image; 4K has 8,294,400."""
    max_total_pixels: int = 100_000_000
    """Most pixels of all images of a request."""
    max_aspect: int = 200
    """Longest side over shortest."""
    max_hd: int = 55
    """Most tiles an image may ask for."""
    max_new_tokens: int | None = None
    """Longest answer; None = what the model's positions leave."""
    max_text: int = 200_000
    """Most characters of all texts of a request."""
    open_seconds: float = 60.0
    """Longest time from a request's arrival to its place in the queue."""
    pdf_seconds: float = 20.0
    """Longest time for drawing the pages of a PDF."""
    max_waiting_requests: int = 64
    """Most requests running and waiting."""
    max_waiting_tokens: int | None = None
    """Most tokens running and waiting; None = 8 times the model's positions."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Reads and opens the images of a request."""

    limits: Limits = field(default_factory=Limits)
    """What is accepted."""
    fetcher: Fetcher = field(default_factory=Fetcher)
    """Fetches http(s) URLs; by default none."""

    def check_count(self, images: int) -> None:
        """Check the number of images, or of what may become images, before any of them is read.

        Raises:
            ApiError: too many images.
        """
        if images > self.limits.max_images:
            raise ApiError(
                f"{images} images and pages, at most {self.limits.max_images} are allowed; send fewer",
                code="too_many_images",
            )

    def read(self, url: str) -> bytes:
        """Return the bytes of the file at a URL.

        Raises:
            ApiError: another scheme, broken base64, too many bytes, or what `Fetcher.fetch` refuses.
        """
        scheme = url[:8].partition(":")[0].lower()
        if scheme == "data":
            return self._decode(url)
        if scheme in ("http", "https"):
            return self.fetcher.fetch(url)
        raise ApiError(f"{quote(url)} is no URL of an image; send data:image/png;base64,... or http(s)", code="bad_url")

    def draw(self, file: bytes, *, name: str, most: int) -> list[Image]:
        """Return the pages of a PDF, RGB, drawn in a process of their own with limits of time and memory.

        Args:
            file: the whole document, see `is_pdf`.
            name: for errors.
            most: most pages.

        Raises:
            ApiError: too many pages or pixels, too slow, broken or locked.
        """
        deadline = monotonic() + self.limits.pdf_seconds
        try:
            with PdfProcess(file, name=name, seconds=self.limits.pdf_seconds) as document:
                if document.pages > most:
                    raise ApiError(
                        f"{name} is a PDF of {document.pages:,} pages, and {most} more images are allowed; send fewer "
                        "pages",
                        code="too_many_images",
                        param=name,
                    )
                return list(self._pages(document, deadline))
        except ImageError as error:
            raise ApiError(str(error), code="invalid_image", param=name) from error

    def _pages(self, document: PdfProcess, deadline: float) -> Iterator[Image]:
        left = self.limits.max_total_pixels
        for number in range(1, document.pages + 1):
            width, height = document.size(number)
            # A page larger than an image may be is drawn coarser, as `ixc read` does.
            scale = min(1.0, (self.limits.max_pixels / (width * height)) ** 0.5)
            left -= int(width * height * scale * scale)
            if left < 0:
                raise ApiError(
                    f"{document.name}: {number} of {document.pages} pages have more than "
                    f"{self.limits.max_total_pixels:,} px; send fewer pages",
                    code="image_too_large",
                )
            if monotonic() > deadline:
                raise ApiError(
                    f"{document.name}: drawing took longer than {self.limits.pdf_seconds:g} s at page {number} of "
                    f"{document.pages}; send fewer pages",
                    code="invalid_image",
                )
            yield document.page(number, dpi=max(1, int(DPI * scale))).image

    def open(self, files: Sequence[bytes], names: Sequence[str] = (), *, published: bool = False) -> list[Image]:
        """Return the pictures of a request, RGB.

        Args:
            files: pictures.
            names: for errors; () = image 1, image 2, ...
            published: the pixels of the original's decoding, for a published prompt; see `image_io.open_image`.

        Raises:
            ApiError: a format, a shape or a number of pixels that is not accepted, or a broken file.
        """
        self.check(files, names)
        return [self._open(file, _name(names, place), published) for place, file in enumerate(files)]

    def check(self, files: Sequence[bytes], names: Sequence[str] = ()) -> None:
        """Check files by their headers alone; no pixel is decoded.

        Raises:
            ApiError: a format, a shape or a number of pixels that is not accepted.
        """
        self.check_pixels(sum(self._check(file, _name(names, place)) for place, file in enumerate(files)))

    def check_pixels(self, pixels: int) -> None:
        """Check the pixels of all images of a request. Raises: ApiError: too many."""
        if pixels > self.limits.max_total_pixels:
            raise ApiError(
                f"the images have more than {self.limits.max_total_pixels:,} px together; reduce them",
                code="image_too_large",
            )

    def _decode(self, url: str) -> bytes:
        most = self.limits.max_image_bytes
        try:
            start = payload_start(url)
        except DataUrlError:
            raise ApiError(f"{quote(url)} is no image; use data:image/png;base64,...", code="bad_url") from None
        if (len(url) - start) // 4 * 3 > most + 3:
            raise ApiError(
                f"an image has more than {most:,} bytes; reduce it first", status=413, code="image_too_large"
            )
        try:
            data = decode_base64(url[start:])
        except DataUrlError as error:
            raise ApiError(f"an image's {error}; encode the whole file anew", code="invalid_image") from None
        if not data:
            raise ApiError("an image has 0 bytes; encode the whole file", code="invalid_image")
        return data

    def _check(self, file: bytes, name: str) -> int:
        """Return the number of pixels that the header claims."""
        width, height = self._size(file, name)
        if max(width, height) > self.limits.max_aspect * min(width, height):
            raise ApiError(
                f"{name} has {width:,} x {height:,} px, sides may differ {self.limits.max_aspect} times; crop it first",
                code="invalid_image",
                param=name,
            )
        return width * height

    def _size(self, file: bytes, name: str) -> tuple[int, int]:
        if format_of(file[:HEAD_BYTES]) is None:
            raise ApiError(refusal(file[:HEAD_BYTES], name), code="invalid_image", param=name)
        try:
            return read_size(file, max_pixels=self.limits.max_pixels)
        except ImageSizeError as error:
            raise ApiError(f"{name}: {error}", code="image_too_large", param=name) from error
        except IxcError as error:
            raise ApiError(f"{name}: {error}", code="invalid_image", param=name) from error

    def _open(self, file: bytes, name: str, published: bool) -> Image:
        try:
            return open_image(file, max_pixels=self.limits.max_pixels, published=published)
        except ImageError as error:
            raise ApiError(f"{name}: {error}", code="invalid_image", param=name) from error


def _name(names: Sequence[str], place: int) -> str:
    return names[place] if names else f"image {place + 1}"
