"""Documents that could not be opened when they were listed, and can be now: one failed page becomes all their pages.

page with an error --listed again--> its first page, in its place; the others behind all blocks
"""

from __future__ import annotations

from collections.abc import Sequence

from ixc.apps.reading.archives import kind_of
from ixc.apps.reading.listing import pages_of
from ixc.apps.reading.records import Page
from ixc.apps.reading.sources import FoundFile


def is_document(page: Page) -> bool:
    """Whether a page's error may be gone when the file is opened again; an archive would have to be listed again."""
    return page.file.kind == "file" and kind_of(page.file.container) is None


def mended(
    pages: Sequence[Page], following: Sequence[Page] = (), *, numbers: tuple[int, ...] | None = None
) -> tuple[tuple[Page, ...], list[Page]]:
    """Return the pages of a block as their files are now, and the further pages of documents that were mended.

    Args:
        pages: of the block.
        following: the page behind the block: a document that was mended while a listing was interrupted has its other
            pages there.
        numbers: pages of documents that are read, as `pages_of`.
    """
    found: list[Page] = []
    further: list[Page] = []
    for page, after in zip(pages, [*pages[1:], *(following or (None,))], strict=True):
        now = [page]
        if page.error is not None and is_document(page) and (after is None or after.file != page.file):
            listed = list(pages_of([FoundFile(file=page.file, named=True)], numbers=numbers))
            now = listed if listed and listed[0].error is None else now
        found.append(now[0])
        further += now[1:]
    return tuple(found), further
