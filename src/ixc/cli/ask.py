"""The commands `ixc ask` and `ixc chat`: questions about images and pages of PDFs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_fits, check_model, check_run
from ixc.cli.generation_options import GenerationOptions
from ixc.cli.json_schema import answer_object
from ixc.cli.options import (
    CacheMemory,
    Compile,
    Device,
    Dpi,
    Dtype,
    Json,
    Model,
    PageNumber,
    Plora,
    PrefixCache,
    ScanPixels,
    TileCache,
    engine_options,
    load_engine,
    takes,
)
from ixc.cli.progress import Waiting, announced, note
from ixc.cli.terminal import existing, lines, read_standard_input, report, write_pieces
from ixc.core.tiling import MAX_HD
from ixc.errors import IxcError, UsageError
from ixc.utils.counted import counted
from ixc.utils.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

    from ixc.inference.engine import Engine
    from ixc.inference.query import Query
    from ixc.inference.request import Answer, Request
    from ixc.inference.standalone import StandaloneEngine
    from ixc.processing.pages import Rendering

ASK_EXAMPLES = (
    'ixc ask page.png "What is the title?"',
    'ixc ask scan.jpg "What is the Total?" --hd 9 --json',
    'ixc ask left.png right.png "What differs?" --model ./internlm-xcomposer2-4khd-7b --hd 25',
    'ixc ask report.pdf#3 "What is the title?"',
    'ixc ask receipt.png "What is the Total?" --draw total.png',
    'curl -s https://example.org/page.png | ixc ask - "What is the title?"',
)

DRAWN_AS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""End of the name of a file of `--draw` -> format."""

CHAT_EXAMPLES = (
    "ixc chat page.png",
    "ixc chat scan.jpg --hd 9",
    'printf "What is the title?\\nWhat is the Total?\\n" | ixc chat receipt.png',
)


@dataclass(frozen=True, kw_only=True)
class AskOptions(GenerationOptions):
    """Options of `ixc ask`; the help of each field says what it does."""

    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE", help="Image files; - is standard input.")] = (
        None
    )
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, last, in quotes.")]
    page: PageNumber = None
    dpi: Dpi = 200
    scan_pixels: ScanPixels = False
    model: Model = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    plora: Plora = "separate"
    compile: Compile = False
    as_json: Json = False
    evidence: Annotated[
        bool, typer.Option("--evidence", help="With --json: also the boxes that the answer was copied from.")
    ] = False
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Write the image with the boxes that the answer was copied from: a PNG or JPEG."),
    ] = None

    @property
    def wants_evidence(self) -> bool:
        """Whether the boxes that the answer was copied from are needed."""
        return self.evidence or self.draw is not None

    @property
    def suits_standalone(self) -> bool:
        """Whether the standalone engine has all of these options."""
        return (
            self.is_default_decoding
            and not self.wants_evidence
            and self.plora == "separate"
            and not self.compile
            and self.dtype in ("auto", "float32")
            and self.device in ("auto", "cpu")
        )


@takes(AskOptions)
def ask(options: AskOptions) -> None:
    """Answer a question about one or more images or pages of PDFs; the answer is printed while it is generated."""
    from ixc.processing.pages import Rendering

    names = options.images or []
    _check_question(names, options.question)
    check_run(device=options.device, dtype=options.dtype, plora=options.plora, compile=options.compile)
    options.check()
    _check_evidence(options)
    # Images are opened before the model is loaded: an unreadable file must not cost seconds first.
    pictures = _open_pages(names, options.page, Rendering(dpi=options.dpi, scan_pixels=options.scan_pixels))
    folder = check_model(options.model)
    options.check_model(folder)
    sizes = [picture.size for picture in pictures]
    tokens = check_fits(folder, sizes, hd=options.hd, partition=options.partition)
    query, what = options.query(pictures, options.question), _reading(tokens, len(pictures))
    query = replace(query, evidence=options.wants_evidence)
    ready = _standalone(folder, query, options) if options.suits_standalone else None
    if ready is not None:
        standalone, request = ready
        _print(options, lambda: standalone.answer(request), lambda: standalone.stream(request), what)
        return
    wanted = engine_options(plora=options.plora, compile=options.compile)
    with Waiting("loading the model"):
        engine = load_engine(options.model, device=options.device, dtype=options.dtype, **wanted)
    if options.draw is None:
        _print(options, lambda: engine.answer(query), lambda: engine.stream_query(query), what)
        return
    with Waiting(what):
        found = engine.answer(query)
    _draw(options.draw, pictures[0], found)
    _print(options, lambda: found, lambda: iter([found.text]), "")


def _check_evidence(options: AskOptions) -> None:
    """Check what `--evidence` and `--draw` need, before anything is opened."""
    if options.evidence and not options.as_json:
        raise UsageError("--evidence adds boxes to the output of --json; add --json, or use --draw FILE for a picture")
    if options.wants_evidence and options.compile:
        raise UsageError("--evidence and --draw read the model step by step; leave out --compile")
    if options.draw is None:
        return
    if options.draw.suffix.lower() not in DRAWN_AS:
        raise UsageError(f"--draw {options.draw}: write it as one of {', '.join(DRAWN_AS)}")
    if not options.draw.parent.is_dir():
        raise UsageError(f"no folder {options.draw.parent} for {options.draw.name}; make it first")
    if len(options.images or []) != 1:
        raise UsageError(
            f"--draw shows the boxes on one image, {len(options.images or [])} are given; use --json --evidence"
        )


def _draw(path: Path, picture: Image, found: Answer) -> None:
    """Write the picture with the boxes of its answer."""
    from ixc.inference.evidence import draw_boxes

    drawn, boxes = BytesIO(), found.evidence or ()
    draw_boxes(picture, boxes).save(drawn, DRAWN_AS[path.suffix.lower()])
    try:
        atomic_write(path, drawn.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --draw") from error
    shown = counted(len(boxes), "box", "boxes")
    note(f"{path}: {shown}")


def _reading(tokens: int, images: int) -> str:
    """Describe the work before the first token of an answer."""
    return f"reading {counted(tokens, 'token')} of {counted(images, 'image')}"


def _print(
    options: AskOptions, answer: Callable[[], Answer], stream: Callable[[], Iterator[str]], reading: str
) -> None:
    """Print the whole answer as JSON, or its text piece by piece; beams end together and are printed whole."""
    if not options.as_json and options.beams == 1:
        write_pieces(announced(stream, reading))
        return
    with Waiting(reading):
        found = answer()
    if options.as_json:
        _print_json(options.question, options.images or [], found)
    else:
        print(found.text)


def _print_json(question: str, images: list[str], found: Answer) -> None:
    """Print one answer as one line of JSON."""
    print(json.dumps(answer_object(question, images, found.as_dict()), ensure_ascii=False), flush=True)


def _standalone(folder: Path, query: Query, options: AskOptions) -> tuple[StandaloneEngine, Request] | None:
    """Prepare the question without importing transformers; None where the full engine must answer."""
    from ixc.inference.standalone import open_folder

    found = open_folder(folder)
    if found is None:
        return None
    request = found.prepare(query)
    return (found, request) if found.load(device=options.device) else None


def _open_pages(names: list[str], page: int | None, rendering: Rendering | None = None) -> list[Any]:
    """Open the named images, - being standard input; warnings about them go to stderr."""
    from ixc.processing.pages import PageReference, open_page, reference_of

    found = []
    for name in names:
        if name == "-":
            reference = PageReference(source=read_standard_input(), page=page)
        else:
            reference = reference_of(name, page)
            existing(str(reference.source))
        opened = open_page(reference, rendering)
        for warning in opened.warnings:
            note(warning)
        found.append(opened.image)
    return found


def _check_question(images: list[str], question: str) -> None:
    """Check that the last argument is a question: the parser takes it for one even if the question was forgotten."""
    if question == "-" or os.path.isfile(question):
        raise UsageError(
            f"the last argument {question!r} is an image, and a question must follow: "
            f'ixc ask {" ".join([*images, question])} "What is the title?"'
        )
    if not images:
        raise UsageError(f'0 images before the question {question!r}, at least 1 needed: ixc ask page.png "..."')
    if not question.strip():
        raise UsageError("the question is empty; write it last, in quotes")
    if images.count("-") > 1:
        raise UsageError(f"standard input is named {images.count('-')} times and can be read once; save it to a file")


@dataclass(frozen=True, kw_only=True)
class ChatOptions(GenerationOptions):
    """Options of `ixc chat`; the help of each field says what it does."""

    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images of the first turn.")]
    page: PageNumber = None
    model: Model = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    plora: Plora = "separate"
    compile: Compile = False
    tile_cache: TileCache = None
    prefix_cache: PrefixCache = None
    cache_memory: CacheMemory = None
    as_json: Json = False


@takes(ChatOptions)
def chat(options: ChatOptions) -> None:
    """Ask in turns; earlier turns are kept. /hd 25 changes the setting, /clear forgets the turns, /quit leaves."""
    wanted = engine_options(
        plora=options.plora,
        compile=options.compile,
        tile_cache=options.tile_cache,
        prefix_cache=options.prefix_cache,
        cache_memory=options.cache_memory,
    )
    check_run(device=options.device, dtype=options.dtype, **wanted)
    options.check()
    pictures = _open_pages(options.images, options.page)
    sizes = [picture.size for picture in pictures]
    folder = check_model(options.model)
    options.check_model(folder)
    check_fits(folder, sizes, hd=options.hd, partition=options.partition)
    with Waiting("loading the model"):
        engine = load_engine(options.model, device=options.device, dtype=options.dtype, **wanted)
    conversation = _Conversation(engine, pictures, options)
    for line in lines():
        try:
            if not conversation.turn(line):
                return
        except IxcError as error:
            if not sys.stdin.isatty():
                raise
            report(error)


def _reading_turn(images: int, turns: int) -> str:
    """Describe the work before the first token of a turn."""
    return f"reading {counted(images, 'image')}" if turns == 0 else f"reading turn {turns + 1}"


class _Conversation:
    """State of one `ixc chat`: images, settings and the turns so far."""

    def __init__(self, engine: Engine, images: list[Any], options: ChatOptions) -> None:
        self.engine, self.images, self.options = engine, images, options
        self.settings: dict[str, Any] = options.generation
        self.history: list[tuple[str, str]] = []

    def turn(self, line: str) -> bool:
        """Answer a question or carry out a command; return False at the end of the conversation."""
        if line.startswith("/"):
            return self._command(*line.split())
        if question := line.strip():
            self.history.append((question, self._answer(question)))
        return True

    def _answer(self, question: str) -> str:
        """Print the answer to a question and return its text."""
        asked: dict[str, Any] = {"history": tuple(self.history), **self.settings}
        reading = _reading_turn(len(self.images), len(self.history))
        if not self.options.as_json and self.options.beams == 1:
            return write_pieces(announced(lambda: self.engine.stream(self.images, question, **asked), reading))
        with Waiting(reading):
            found = self.engine.ask(self.images, question, **asked)
        if self.options.as_json:
            _print_json(question, self.options.images, found)
        else:
            print(found.text, flush=True)
        return found.text

    def _command(self, command: str, *values: str) -> bool:
        if command in ("/quit", "/exit") and not values:
            return False
        if command == "/clear" and not values:
            self.history.clear()
        elif command == "/hd" and len(values) == 1 and values[0].isdecimal() and 0 < int(values[0]) <= MAX_HD:
            self.settings["hd"] = int(values[0])
        else:
            raise UsageError(
                f"no command {' '.join([command, *values])!r}; use /hd 25 (1 to {MAX_HD}), /clear or /quit"
            )
        return True
