"""Pages to pictures: what a worker does before it asks a model.

    Page --PageOpener.open--> OpenedPage (an RGB picture, or one line that says why there is none)

The last file and the last archive stay open for their next page; a worker has an opener of its own. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ixc.apps.reading.records import FileRef, Page
from ixc.errors import IxcError, MissingPackageError
from ixc.processing.pages import Document, Rendering, open_document

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

    def open(self, page: Page) -> OpenedPage:
        """Open and draw a page; an error is part of the result.

        Raises:
            MissingPackageError: an extra that every such file needs.
        """
        start = perf_counter()
        if page.error is not None:
            return OpenedPage(page=page, error=page.error)
        try:
            shown = self._open_file(page.file).page(page.number, self.rendering)
        except MissingPackageError:
            raise
        except (IxcError, OSError) as error:
            self.close_document()
            return OpenedPage(page=page, error=" ".join(str(error).split()), seconds=perf_counter() - start)
        return OpenedPage(page=page, image=shown.image, warnings=tuple(shown.warnings), seconds=perf_counter() - start)

    def _open_file(self, file: FileRef) -> Document:
        if self._document is None or self._document[0] != file:
            self.close_document()
            self._document = file, open_document(Path(file.container))
        return self._document[1]

    def close_document(self) -> None:
        """Close the file that is open."""
        if self._document is not None:
            self._document[1].close()
            self._document = None

    def close(self) -> None:
        """Close everything."""
        self.close_document()

    def __enter__(self) -> PageOpener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
