"""Command line of the studies: `python -m studies.resolution`, in the root of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ixc.cli.options import quiet_libraries
from ixc.cli.progress import ticker
from ixc.cli.terminal import errors_to_exit_codes
from ixc.inference.model_folder import EMBEDDED
from studies.resolution.pipeline import Folders, run
from studies.resolution.report import write

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option("--out", help="Folder of states and features, some 3 GB.")] = Path(
        "runs/resolution"
    ),
    results: Annotated[Path, typer.Option("--results", help="Folder of result files, one a run.")] = Path(
        "studies/resolution/results"
    ),
    page: Annotated[Path, typer.Option("--page", help="The page that is written.")] = Path("docs/findings.md"),
    benchmarks: Annotated[Path, typer.Option("--benchmarks", help="Folder of speed_*.json.")] = Path("benchmarks"),
    init_from: Annotated[
        Path, typer.Option("--init-from", help="Model folder that the language model starts from.")
    ] = EMBEDDED,
    only: Annotated[list[str] | None, typer.Option("--only", help="Variant; may be repeated; default: all.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="May be repeated; default: 1, 2, 3.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes of one thread each.")] = 2,
    report: Annotated[bool, typer.Option("--report", help="Train nothing, write the page.")] = False,
) -> None:
    """Train and score the variants of the paper's studies on a small scale, and write the findings; it resumes."""
    quiet_libraries()
    if not report:
        folders = Folders(out=out, results=results, init_from=init_from)
        with ticker(every=0) as progress:
            run(folders, only=tuple(only or ()), seeds=tuple(seeds or ()), workers=workers, progress=progress)
    print(write(results, page, benchmarks=benchmarks))


if __name__ == "__main__":
    with errors_to_exit_codes():
        app()
