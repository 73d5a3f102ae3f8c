"""`ixc data pages`: documents become a folder of pages, one file a document, resumable, one page in memory at a time.

    Document --worker process--> OUT/documents/HASH.zip, a line of OUT/index.jsonl

PDFium runs in a process of its own, bounded in memory and in seconds a document: a PDF that crashes it or keeps it busy
is noted as broken and the run goes on. A document is done when its line stands in the index; a run that is started
again goes on behind the last one. Pages and their sizes are drawn from (seed, package, name) alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import os
import zipfile
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ixc.errors import DataError, MissingPackageError
from ixc.nano.data.page_files import add_page
from ixc.nano.data.pdf_pages import LeftOut, PageConfig, read_page
from ixc.nano.data.pdf_sources import Document

INDEX, CONFIG, DOCUMENTS = "index.jsonl", "config.json", "documents"
"""Names in a folder of pages."""


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """How a folder of pages is made."""

    page: PageConfig = field(default_factory=PageConfig)
    pages_per_document: int = 4
    """Most pages taken from a document."""
    seed: int = 0
    seconds: float = 120.0
    """Longest time for a document."""
    memory: int = 3 << 30
    """Most bytes of address space of the process that reads PDFs."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a document."""

    package: str
    document: str
    status: str
    """pages, empty (no page of it is training data), or broken."""
    pages: int = 0
    file: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reasons, and how many pages each."""
    error: str = ""


def read_index(folder: Path) -> list[Outcome]:
    """Documents that a folder has dealt with; a torn last line is not one."""
    path, found = folder / INDEX, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(Outcome(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def write_pages(documents: Sequence[Document], out: Path, config: FolderConfig) -> Generator[Outcome]:
    """Deal with every document that the folder has not dealt with yet.

    Raises:
        UsageError: pypdfium2 is missing.
        DataError: the folder was made with another configuration, or cannot be written.
    """
    if importlib.util.find_spec("pypdfium2") is None:
        raise MissingPackageError("pypdfium2 is missing, which reads PDFs; pip install 'ixc-4khd[pdf]'")
    done = _open_folder(out, config)
    with (out / INDEX).open("a", encoding="utf-8") as index, _Worker(out, config) as worker:
        for document in documents:
            if (document.package, document.name) in done:
                continue
            outcome = worker.read(document)
            try:
                index.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                index.flush()
                os.fsync(index.fileno())
            except OSError as error:
                raise DataError(f"{out / INDEX} cannot be written ({error}); free space, then run again") from error
            yield outcome


def _open_folder(out: Path, config: FolderConfig) -> set[tuple[str, str]]:
    (out / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    path, settings = out / CONFIG, json.dumps(asdict(config), indent=1)
    if path.is_file() and json.loads(path.read_text()) != json.loads(settings):
        raise DataError(f"{out} was made with the other settings of {path}; use those, or a new folder")
    path.write_text(settings + "\n")
    for torn in (out / DOCUMENTS).glob("*.partial"):
        torn.unlink()
    index = out / INDEX
    if index.is_file() and (text := index.read_bytes()) and not text.endswith(b"\n"):
        index.write_bytes(text[: text.rfind(b"\n") + 1])
    return {(outcome.package, outcome.document) for outcome in read_index(out)}


class _Worker:
    """A process that reads PDFs, started anew when one ends it."""

    def __init__(self, out: Path, config: FolderConfig) -> None:
        self.out, self.config = out, config
        self.context = multiprocessing.get_context("spawn")
        self.process: Any = None
        self.pipe: Any = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def read(self, document: Document) -> Outcome:
        """A document's outcome, whatever the PDF does to the process."""
        if self.process is None:
            self.pipe, theirs = self.context.Pipe()
            self.process = self.context.Process(target=_serve, args=(theirs, self.out, self.config), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.pipe.send(document)
            if self.pipe.poll(self.config.seconds):
                return self.pipe.recv()
            reason = f"took longer than {self.config.seconds:g} s"
        except (EOFError, OSError):
            reason = "ended the process that read it"
        self._end()
        return Outcome(package=document.package, document=document.name, status="broken", error=reason)

    def _end(self) -> None:
        if self.process is not None:
            self.pipe.close()
            self.process.kill()
            self.process.join()
            self.process = None


def _serve(pipe: Any, out: Path, config: FolderConfig) -> None:
    """The process: documents come in, outcomes go out."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (config.memory, config.memory))
    except (ImportError, ValueError, OSError):
        pass
    while True:
        try:
            document = pipe.recv()
        except EOFError:
            return
        pipe.send(_read_document(document, out, config))


def _read_document(document: Document, out: Path, config: FolderConfig) -> Outcome:
    name = f"{document.package}/{document.name}"
    path = out / DOCUMENTS / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.zip"
    beside, left_out = path.with_suffix(".partial"), Counter()
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as file:
            count = _write_document(file, document, config, left_out)
    except Exception as error:
        beside.unlink(missing_ok=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Outcome(package=document.package, document=document.name, status="broken", error=text)
    if count:
        os.replace(beside, path)
    else:
        beside.unlink()
    return Outcome(
        package=document.package,
        document=document.name,
        status="pages" if count else "empty",
        pages=count,
        file=path.name if count else "",
        left_out=dict(left_out),
    )


def _write_document(file: zipfile.ZipFile, document: Document, config: FolderConfig, left_out: Counter[str]) -> int:
    """Pages of an open document at random until enough are good or three times as many were looked at."""
    import pypdfium2

    digest = hashlib.sha256(f"{config.seed}/{document.package}/{document.name}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    pdf = pypdfium2.PdfDocument(document.read())
    count = 0
    try:
        for number in rng.permutation(len(pdf))[: 3 * config.pages_per_document].tolist():
            page = pdf[number]
            try:
                notes = {"package": document.package, "document": document.name}
                add_page(file, number, read_page(page, rng, config.page), notes)
                count += 1
            except LeftOut as reason:
                left_out[str(reason)] += 1
            except Exception as error:  # a broken page of a good document
                left_out[type(error).__name__] += 1
            finally:
                page.close()
            if count == config.pages_per_document:
                break
    finally:
        pdf.close()
    return count
