"""A PDF in a process of its own, bounded in seconds and memory: PDFium may crash, hang or take all memory there.

    this process                                     python -m ixc.processing.pdf_process
    header line, the document             ------->   opens it
    {"do": "page", "number": 3, ...}      ------->   draws
    {"size": [w, h], ...} and the pixels  <-------   RGB, 3 * w * h bytes

The process is begun at the first question, and again after one that killed it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from threading import Timer
from typing import IO, TYPE_CHECKING, Any

from ixc.errors import ImageError, IxcError, UsageError
from ixc.processing.image_formats import HEAD_BYTES, is_pdf
from ixc.processing.pdf import DPI, PageImage, Pdf, check_installed

if TYPE_CHECKING:
    from types import TracebackType

SECONDS = 20.0
"""Longest time for opening a document or for one of its pages."""

MEMORY_BYTES = 2 << 30
"""Most memory of the process."""


class PdfProcess:
    """An open document, as `Pdf`; one thread at a time.

    Args:
        file: the whole document.
        name: for errors.
        seconds, memory: limits, for opening and for every page.

    Raises:
        MissingPackageError: the extra is missing. ImageError: broken, locked, without pages, or too much work.
    """

    def __init__(
        self, file: bytes, *, name: str = "the PDF", seconds: float = SECONDS, memory: int = MEMORY_BYTES
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        check_installed()
        self.name, self._file, self._seconds, self._memory = name, file, seconds, memory
        self.pages: int = self._ask("opening", {"do": "count"})[0]["pages"]

    def page(self, number: int, *, dpi: int = DPI, scan_pixels: bool = False) -> PageImage:
        """As `Pdf.page`.

        Raises:
            ImageError: also where it took too long or too much memory.
        """
        from PIL import Image

        question = {"do": "page", "number": number, "dpi": dpi, "scan_pixels": scan_pixels}
        answer, pixels = self._ask(f"page {number}", question)
        return PageImage(
            image=Image.frombytes("RGB", tuple(answer["size"]), pixels), warnings=tuple(answer["warnings"])
        )

    def size(self, number: int, *, dpi: int = DPI, scan_pixels: bool = False) -> tuple[int, int]:
        """As `Pdf.size`, errors as `page`."""
        question = {"do": "size", "number": number, "dpi": dpi, "scan_pixels": scan_pixels}
        width, height = self._ask(f"page {number}", question)[0]["size"]
        return width, height

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> PdfProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _ask(self, what: str, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = Timer(self._seconds, process.kill)
        late.start()
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            pixels = _exactly(process.stdout, answer.get("bytes", 0))
        except (OSError, ValueError):
            raise self._end(what, timed_out=not late.is_alive()) from None
        finally:
            late.cancel()
        if "error" in answer:
            kind = UsageError if answer["usage"] else ImageError
            raise kind(answer["error"])
        return answer, pixels

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ixc.processing.pdf_process", str(self._seconds), str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._process.stdin is not None
            header = json.dumps({"name": self.name, "bytes": len(self._file)})
            with suppress(OSError):  # where it has ended already, the question that follows finds it out
                self._process.stdin.write(header.encode() + b"\n" + self._file)
        return self._process

    def _end(self, what: str, *, timed_out: bool) -> ImageError:
        self.close()
        if timed_out:
            return ImageError(f"{self.name}, {what}: it took longer than {self._seconds:g} s; use a simpler PDF")
        return ImageError(
            f"{self.name}, {what}: the renderer ended, at most {self._memory / 2**30:.2g} GB of memory are given; "
            "use a simpler PDF"
        )


def page_as_png(file: bytes, number: int, *, seconds: float = SECONDS, memory: int = MEMORY_BYTES) -> tuple[int, bytes]:
    """A page of a stranger's document.

    Args:
        file: the whole document.
        number: of the page, from 1.

    Returns:
        Pages of the document, the page as PNG.

    Raises:
        As `PdfProcess` and its `page`.
    """
    if not is_pdf(file[:HEAD_BYTES]):
        raise ImageError("the file is no PDF; send one that begins with %PDF-")
    with PdfProcess(file, seconds=seconds, memory=memory) as document:
        picture = BytesIO()
        document.page(number).image.save(picture, "PNG", compress_level=1)
        return document.pages, picture.getvalue()


def _exactly(file: IO[bytes], size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise OSError(f"{size - len(found):,} bytes are missing")
    return found


# -- the other process ------------------------------------------------------------------------------------------------


def serve(incoming: IO[bytes], outgoing: IO[bytes], *, seconds: float, memory: int) -> None:
    """Answers questions about one document until nobody asks any more."""
    header = json.loads(incoming.readline())
    file = _exactly(incoming, header["bytes"])
    document: Pdf | None = None
    while line := incoming.readline():
        _bound(seconds, memory)
        pixels = b""
        try:
            document = document or Pdf(file, name=header["name"])
            answer, pixels = _answer(document, json.loads(line))
        except IxcError as error:
            answer = {"error": str(error), "usage": isinstance(error, UsageError)}
        outgoing.write(json.dumps({**answer, "bytes": len(pixels)}).encode() + b"\n" + pixels)
        outgoing.flush()


def _answer(document: Pdf, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    kind = question.pop("do")
    if kind == "count":
        return {"pages": document.pages}, b""
    if kind == "size":
        return {"size": document.size(**question)}, b""
    found = document.page(**question)
    return {"size": found.image.size, "warnings": found.warnings}, found.image.tobytes()


def _bound(seconds: float, memory: int) -> None:
    """Memory of this process, and seconds from now on, where the system can bound them."""
    try:
        import resource
    except ImportError:
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, seconds=float(sys.argv[1]), memory=int(sys.argv[2]))
