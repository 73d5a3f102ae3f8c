"""`report.html`: answers beside thumbnails, failures first, searchable; one file that needs no network.

    rows/ --failed pages, then the others in order--> at most MOST_PAGES pages --write_report--> report.html

Thumbnails are drawn anew from the documents, page by page, and the file is written as it grows: memory stays that of a
page. A page over which workers died is not opened. A page beyond `MOST_PAGES` is not shown; the report says how many
there are.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, TextIO

from ixc.apps.reading.opening import PageOpener
from ixc.apps.reading.records import Page, Row
from ixc.apps.reading.run_log import full
from ixc.cluster.tries import DIED
from ixc.errors import IxcError
from ixc.utils.counted import counted
from ixc.utils.files import atomic_file

if TYPE_CHECKING:
    from ixc.apps.reading.run_folder import RunFolder

NAME = "report.html"
"""Name of the file."""

MOST_PAGES = 500
"""Most pages that are shown: with thumbnails of some 5 kB the file stays below 5 MB."""

THUMBNAIL = 160
"""Longest side of a thumbnail, pixels."""

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ixc read</title>
<style>
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;padding:0 1rem;color:#111;background:#fff}
input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box;margin:.5rem 0 1rem}
section{display:flex;gap:1rem;border-top:1px solid #ccc;padding:.8rem 0}section[hidden]{display:none}
section>div:first-child{flex:0 0 160px}img{max-width:160px;height:auto;border:1px solid #ccc}
h2{font-size:1rem;margin:0 0 .4rem;overflow-wrap:anywhere}dl{margin:0}dt{color:#555}
dd{margin:0 0 .5rem;white-space:pre-wrap}
.failed dd.error{color:#a00}@media (prefers-color-scheme:dark){body{color:#eee;background:#161616}dt{color:#aaa}
.failed dd.error{color:#f88}}
</style>
"""

_SCRIPT = """<script>
const box=document.querySelector("input"),all=[...document.querySelectorAll("section")];
const out=document.querySelector("output");
box.addEventListener("input",()=>{const words=box.value.toLowerCase().split(/\\s+/).filter(Boolean);let n=0;
for(const each of all){const text=each.textContent.toLowerCase();
each.hidden=!words.every(w=>text.includes(w));n+=!each.hidden}
out.textContent=words.length?n+" shown":""});
</script></html>
"""


def write_report(run: RunFolder, *, most: int = MOST_PAGES) -> None:
    """Write the report of the done blocks.

    Args:
        run: the run.
        most: pages shown, >= 1.

    Raises:
        DataError: it cannot be written.
    """
    path = run.folder / NAME
    try:
        with atomic_file(path) as draft, draft.open("w", encoding="utf-8") as file:
            _write(run, file, most)
    except OSError as error:
        raise full(path, error) from error


def _write(run: RunFolder, file: TextIO, most: int) -> None:
    totals = run.totals()
    file.write(_HEAD)
    shown = min(most, totals.done_pages)
    lines = [
        f"{counted(totals.done_pages, 'page')}, {counted(totals.rows, 'answer')}, {totals.failed:,} failed; "
        f"model {html.escape(run.settings.model)}",
        f"{shown:,} of {counted(totals.done_pages, 'page')} are shown, failures first; all rows are in rows/, and "
        "answers.csv has a column a question",
    ]
    file.write("<h1>ixc read</h1>\n" + "".join(f"<p>{line}</p>\n" for line in lines))
    file.write('<input type="search" placeholder="Search answers and file names"><output></output>\n')
    with PageOpener(run.settings.rendering) as opener:
        left = most
        for failed in (True, False):
            if not failed or totals.failed:
                for page, rows in _pages(run, failed=failed):
                    if not left:
                        break
                    file.write(_section(page, rows, opener))
                    left -= 1
    file.write(_SCRIPT)


def _pages(run: RunFolder, *, failed: bool) -> Iterator[tuple[Page, list[Row]]]:
    """Yield the pages with a failed row, or those without, with their rows."""
    count = len(run.settings.questions)
    for number, done in sorted(run.log.done.items()):
        if failed and not done.failed:
            continue
        rows = run.read_rows(number)
        for at, page in enumerate(run.log.block(number).pages):
            of_page = rows[at * count : (at + 1) * count]
            if any(row.error is not None for row in of_page) == failed:
                yield page, of_page


def _section(page: Page, rows: list[Row], opener: PageOpener) -> str:
    failed = any(row.error is not None for row in rows)
    items = "".join(f"<dt>{html.escape(row.column)}</dt>{_answer(row)}" for row in rows)
    deadly = any(DIED in (row.error or "") for row in rows)
    thumbnail = "" if deadly else _thumbnail(page, opener)
    return (
        f"<section{' class=failed' if failed else ''}><div>{thumbnail}</div>"
        f"<div><h2>{html.escape(page.name)}</h2><dl>{items}</dl></div></section>\n"
    )


def _answer(row: Row) -> str:
    if row.error is not None:
        return f"<dd class=error>{html.escape(row.error)}</dd>"
    return f"<dd>{html.escape(row.answer or '')}</dd>"


def _thumbnail(page: Page, opener: PageOpener) -> str:
    """Return an image element; nothing where the page cannot be opened."""
    try:
        opened = opener.open(page)
    except IxcError:
        return ""
    if opened.image is None:
        return ""
    image = opened.image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    image.save(out, "JPEG", quality=60)
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="" width="{image.width}" height="{image.height}" src="data:image/jpeg;base64,{data}">'
