"""Pages to pictures: what a worker does before it asks a model.

    Page --PageOpener.open--> OpenedPage (an RGB picture, or one line that says why there is none)

The last file and the last archive stay open for their next page; a worker has an opener of its own. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ixc.apps.reading import remote
from ixc.apps.reading.archives import MAX_MEMBER_BYTES, ArchiveReader
from ixc.apps.reading.records import FileRef, Page
from ixc.errors import IxcError, MissingPackageError
from ixc.processing.pages import STANDARD_INPUT, Document, Rendering, Source, open_document

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class OpenedPage:
    """A page as the model sees it; it pickles."""

    page: Page
    """The page."""
    image: Image | None = None
    """RGB; None where it cannot be opened."""
    error: str | None = None
    """Why it cannot be opened, one line."""
    warnings: tuple[str, ...] = ()
    """What a viewer may show and the picture lacks."""
    seconds: float = 0.0
    """Wall time of opening and drawing."""


class PageOpener:
    """Opens pages; one thread at a time.

    Args:
        rendering: how pages become pixels.
    """

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering
        self._document: tuple[FileRef, Document] | None = None
        self._archives = ArchiveReader()

    def open(self, page: Page) -> OpenedPage:
        """Open and draw a page; an error is part of the result.

        Raises:
            MissingPackageError: an extra that every such file needs.
        """
        start = perf_counter()
        if page.error is not None:
            return OpenedPage(page=page, error=page.error)
        try:
            shown = self.document(page.file).page(page.number, self.rendering)
        except MissingPackageError:
            raise
        except (IxcError, OSError) as error:
            self.close_document()
            return OpenedPage(page=page, error=error_line(page.file, error), seconds=perf_counter() - start)
        return OpenedPage(page=page, image=shown.image, warnings=tuple(shown.warnings), seconds=perf_counter() - start)

    def document(self, file: FileRef) -> Document:
        """Open a file; it stays open until another is asked for.

        Raises:
            ImageError: as `open_document`. MissingPackageError: a missing extra.
        """
        if self._document is None or self._document[0] != file:
            self.close_document()
            self._document = file, open_document(self.source(file))
        return self._document[1]

    def source(self, file: FileRef) -> Source:
        """Return the path of a local file, or the bytes of another. Raises: ImageError: they cannot be read."""
        if file.kind != "file":
            return self._archives.read(file)
        if remote.is_address(file.container):
            return remote.read_bytes(file.container, limit=MAX_MEMBER_BYTES)
        return Path(file.container)

    def close_document(self) -> None:
        """Close the file that is open."""
        if self._document is not None:
            self._document[1].close()
            self._document = None

    def close(self) -> None:
        """Close everything."""
        self.close_document()
        self._archives.close()

    def __enter__(self) -> PageOpener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def error_line(file: FileRef, error: object) -> str:
    """Return an error as one line that names the file: one read from bytes has no name in its errors.

    Args:
        file: the document.
        error: its text is the line.
    """
    line = " ".join(str(error).split()) or type(error).__name__
    if file.name in line:
        return line
    if file.kind == "file" and file.container in line:
        return line.replace(file.container, file.name)
    line = line.replace(STANDARD_INPUT, file.name)
    return line if file.name in line else f"{file.name}: {line}"
