"""`answers.csv`: a row a page, a column of answers for every question; made from the result files.

rows/ --write_wide--> file,page,total,date
                      scans/a.png,1,641.57,2026-11-30
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from ixc.apps.reading.run_log import full
from ixc.utils.files import atomic_file

if TYPE_CHECKING:
    from ixc.apps.reading.run_folder import RunFolder

NAME = "answers.csv"
"""Name of the file."""


def write_wide(run: RunFolder) -> None:
    """Write the table; a failed answer is an empty field. Raises: DataError: it cannot be written."""
    columns = [each.column for each in run.settings.questions]
    path = run.folder / NAME
    try:
        with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "page", *columns])
            for rows in run.all_rows():
                for start in range(0, len(rows), len(columns)):
                    page = rows[start : start + len(columns)]
                    writer.writerow([page[0].file, page[0].page, *(row.answer for row in page)])
    except OSError as error:
        raise full(path, error) from error
