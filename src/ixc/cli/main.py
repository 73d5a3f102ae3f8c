"""The command `ixc`: every function here reads its arguments, imports one room and calls one function of it.

    ask       a question about images             chat            the same in turns
    plan      what a setting costs, beforehand    import-weights  published weights -> a native folder
    synth     drawn documents with questions      train, merge    a model by a recipe: see `cli_train`
    eval      scores: see `cli_eval`                serve         an OpenAI API and a page: see `cli_serve`
    data      is data fit to learn from: see `cli_data`   plan-train    a run, beforehand: see `cli_train`
    quantize, bench   smaller weights, time and memory: see `cli_bench`
    read      questions over pages of PDFs and images: see `cli_read`

Rooms are imported inside the commands: `ixc --help` and `ixc plan` must answer without torch and transformers.
Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. An `IxcError` becomes one line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc import __version__
from ixc.cli.bench import QUANTIZE_EXAMPLES, bench, quantize
from ixc.cli.checks import check_fits, check_model, check_run, check_setting, check_source, check_target
from ixc.cli.data import data
from ixc.cli.eval import evals
from ixc.cli.options import (
    Compile,
    Device,
    Dpi,
    Dtype,
    Hd,
    Json,
    Model,
    NewTokens,
    PageNumber,
    Plora,
    PrefixCache,
    Rule,
    ScanPixels,
    TileCache,
    add_processor,
    engine_options,
    examples,
    load_engine,
    quiet_libraries,
    renamed,
)
from ixc.cli.read import READ_EXAMPLES, read
from ixc.cli.serve import SERVE_EXAMPLES, serve
from ixc.cli.synth import SYNTH_EXAMPLES, synth
from ixc.cli.terminal import (
    errors_to_exit_codes,
    existing,
    lines,
    note,
    progress,
    read_standard_input,
    report,
    write_pieces,
)
from ixc.cli.train import (
    MERGE_EXAMPLES,
    OLD_TRAIN_OPTIONS,
    PLAN_TRAIN_EXAMPLES,
    TRAIN_EXAMPLES,
    merge,
    plan_train,
    train,
)
from ixc.errors import IxcError, UsageError

if TYPE_CHECKING:
    from ixc.inference.cost import Plan
    from ixc.inference.engine import Engine
    from ixc.processing.pages import Rendering

app = typer.Typer(
    name="ixc",
    help="InternLM-XComposer2-4KHD: questions about pictures from 336 px to 4K, answered offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(evals, name="eval")
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")
app.command(name="quantize", epilog=examples(*QUANTIZE_EXAMPLES))(quantize)
app.command(name="synth", epilog=examples(*SYNTH_EXAMPLES))(synth)
app.command(name="train", epilog=examples(*TRAIN_EXAMPLES), cls=renamed(OLD_TRAIN_OPTIONS))(train)
app.command(name="merge", epilog=examples(*MERGE_EXAMPLES))(merge)
app.command(name="plan-train", epilog=examples(*PLAN_TRAIN_EXAMPLES))(plan_train)
app.command(name="read", epilog=examples(*READ_EXAMPLES))(read)
app.command(name="serve", epilog=SERVE_EXAMPLES)(serve)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ixc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command(
    epilog=examples(
        'ixc ask page.png "What is the title?"',
        'ixc ask scan.jpg "What is the Total?" --hd 9 --json',
        'ixc ask left.png right.png "What differs?" --model ./internlm-xcomposer2-4khd-7b --hd 25',
        'ixc ask report.pdf#3 "What is the title?"',
        'curl -s https://example.org/page.png | ixc ask - "What is the title?"',
    )
)
def ask(
    *,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE", help="Image files; - is standard input.")
    ] = None,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, last, in quotes.")],
    page: PageNumber = None,
    dpi: Dpi = 200,
    scan_pixels: ScanPixels = False,
    model: Model = None,
    hd: Hd = None,
    partition: Rule = None,
    max_new_tokens: NewTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    plora: Plora = "low_rank",
    compile: Compile = False,
    as_json: Json = False,
) -> None:
    """Answer a question about one or more images or pages of PDFs; the answer is printed while it is written."""
    from ixc.processing.pages import Rendering

    names = images or []
    _check_question(names, question)
    check_run(device=device, dtype=dtype, plora=plora, compile=compile)
    check_setting(hd, partition, max_new_tokens)
    # Opened here: what cannot be read is told before seconds are spent on loading a model.
    pictures = _open_pages(names, page, Rendering(dpi=dpi, scan_pixels=scan_pixels))
    folder = check_model(model)
    check_fits(folder, [picture.size for picture in pictures], hd=hd, partition=partition)
    options: dict[str, Any] = {"hd": hd, "partition": partition, "max_new_tokens": max_new_tokens}
    usual = (plora, compile, dtype in ("auto", "float32"), device in ("auto", "cpu")) == ("low_rank", False, True, True)
    answer = _standalone(folder, pictures, question, device=device, whole=as_json, **options) if usual else None
    if answer is None:
        engine = load_engine(model, device=device, dtype=dtype, **engine_options(plora=plora, compile=compile))
        ask_or_stream = engine.ask if as_json else engine.stream
        answer = ask_or_stream(pictures, question, **options)
    if as_json:
        print(json.dumps({"question": question, "images": names, **answer.as_dict()}, ensure_ascii=False))
    else:
        write_pieces(answer)


def _standalone(
    folder: Path, pictures: Sequence[Any], question: str, *, device: str, whole: bool, **options: Any
) -> Any:
    """The answer (whole, or its pieces) without importing transformers; None where the engine must give it."""
    from ixc.inference.standalone import reader

    found = reader(folder)
    if found is None:
        return None
    request = found.prepare(pictures, question, **options)
    if not found.load(device=device):
        return None
    return found.answer(request) if whole else found.stream(request)


def _open_pages(names: list[str], page: int | None, rendering: Rendering | None = None) -> list[Any]:
    """The pictures a user names, - for standard input; notes about them go to stderr."""
    from ixc.processing.pages import PageReference, open_page, reference_of

    found = []
    for name in names:
        if name == "-":
            reference = PageReference(source=read_standard_input(), page=page)
        else:
            reference = reference_of(name, page)
            existing(str(reference.source))
        shown = open_page(reference, rendering)
        for warning in shown.warnings:
            note(warning)
        found.append(shown.image)
    return found


def _check_question(images: list[str], question: str) -> None:
    """The parser takes the last argument for the question, even where somebody forgot it."""
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


@app.command(
    epilog=examples(
        "ixc chat page.png",
        "ixc chat scan.jpg --hd 9",
        'printf "What is the title?\\nWhat is the Total?\\n" | ixc chat receipt.png',
    )
)
def chat(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images the first turn speaks about.")],
    page: PageNumber = None,
    model: Model = None,
    hd: Hd = None,
    partition: Rule = None,
    max_new_tokens: NewTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    plora: Plora = "low_rank",
    compile: Compile = False,
    tile_cache: TileCache = None,
    prefix_cache: PrefixCache = None,
) -> None:
    """Ask in turns; earlier turns are kept. /hd 25 changes the setting, /clear forgets the turns, /quit leaves."""
    check_run(device=device, dtype=dtype, plora=plora, compile=compile, prefix_cache=prefix_cache)
    check_setting(hd, partition, max_new_tokens)
    pictures = _open_pages(images, page)
    sizes = [picture.size for picture in pictures]
    check_fits(check_model(model), sizes, hd=hd, partition=partition)
    wanted = engine_options(plora=plora, compile=compile, tile_cache=tile_cache, prefix_cache=prefix_cache)
    engine = load_engine(model, device=device, dtype=dtype, **wanted)
    talk = _Talk(engine, pictures, hd, partition, max_new_tokens)
    for line in lines():
        try:
            if not talk.turn(line):
                return
        except IxcError as error:
            if not sys.stdin.isatty():
                raise
            report(error)


class _Talk:
    """One conversation of `ixc chat`."""

    def __init__(
        self, engine: Engine, images: list[Any], hd: int | None, partition: str | None, max_new_tokens: int | None
    ) -> None:
        self.engine, self.images = engine, images
        self.options: dict[str, Any] = {"hd": hd, "partition": partition, "max_new_tokens": max_new_tokens}
        self.history: list[tuple[str, str]] = []

    def turn(self, line: str) -> bool:
        """Answers or obeys one line; False ends the talk."""
        if line.startswith("/"):
            return self._obey(*line.split())
        if line.strip():
            answer = write_pieces(
                self.engine.stream(self.images, line.strip(), history=tuple(self.history), **self.options)
            )
            self.history.append((line.strip(), answer))
        return True

    def _obey(self, command: str, *values: str) -> bool:
        if command in ("/quit", "/exit") and not values:
            return False
        if command == "/clear" and not values:
            self.history.clear()
        elif command == "/hd" and len(values) == 1 and values[0].isdecimal() and int(values[0]) > 0:
            self.options["hd"] = int(values[0])
        else:
            raise UsageError(f"no command {' '.join([command, *values])!r}; use /hd 25 (1 and more), /clear or /quit")
        return True


@app.command(
    epilog=examples(
        "ixc plan 3840x2160 --hd 55",
        "ixc plan scan.jpg --hd 25 --partition fit --draw tiles.png",
        "ixc plan report.pdf --page 3 --hd 25",
        "ixc plan page.png --model ./ixc-4khd-7b --dtype int4 --json",
    )
)
def plan(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE|WxH", help="An image or PDF file, or a size in pixels: 3840x2160.")
    ],
    page: PageNumber = None,
    dpi: Dpi = 200,
    scan_pixels: ScanPixels = False,
    hd: Hd = None,
    rule: Rule = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Tokens of the prompt beside the image.")] = 0,
    model: Annotated[Path | None, typer.Option("--model", help="Model folder; default: the published 7B.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, int8 or int4.")] = "bfloat16",
    draw: Annotated[Path | None, typer.Option("--draw", help="Picture of tiles, overview and tokens.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a setting costs before anything runs: grid, tokens, memory, FLOPs."""
    from ixc.inference import cost as room
    from ixc.processing.pages import Rendering

    rendering = Rendering(dpi=dpi, scan_pixels=scan_pixels)
    width, height = _size(image, page, rendering)
    options: dict[str, Any] = {"hd": hd, "rule": rule}
    options = {key: value for key, value in options.items() if value is not None}
    if model is not None:
        options = {"geometry": room.read_geometry(model), **room.read_tiling(model), **options}
    planned = room.plan(width, height, text_tokens=text_tokens, dtype=dtype, **options)
    if draw is not None:
        _draw(image, page, rendering, planned, draw)
    print(json.dumps(_as_dict(planned)) if as_json else "\n".join(room.text(planned)))


def _size(image: str, page: int | None, rendering: Rendering) -> tuple[int, int]:
    """A size written as 3840x2160, or that of a picture or page, from its header."""
    width, cross, height = image.lower().partition("x")
    if cross and width.isdecimal() and height.isdecimal():
        return int(width), int(height)
    from ixc.processing.pages import page_size, reference_of

    reference = reference_of(image, page)
    existing(str(reference.source))
    size, told = page_size(reference, rendering)
    if told is not None:
        note(told)
    return size


def _draw(image: str, page: int | None, rendering: Rendering, planned: Plan, out: Path) -> None:
    """The drawing appears under its name whole or not at all."""
    from ixc.processing.pages import open_page, reference_of

    reference = reference_of(image, page)
    if not os.path.isfile(str(reference.source)):
        raise UsageError(f"--draw draws over a picture and {image!r} is only a size; give an image file")
    from io import BytesIO

    from ixc.inference.tiling_figure import draw

    picture = BytesIO()
    draw(open_page(reference, rendering).image, plan=planned, out=picture)
    draft = out.parent / f".{out.name}.{os.getpid()}"
    try:
        draft.write_bytes(picture.getvalue())
        draft.replace(out)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another file") from error


def _as_dict(planned: Plan) -> dict[str, Any]:
    """A plan for JSON: sizes in px and tokens, work in FLOP, memory in bytes."""
    from dataclasses import asdict

    from ixc.inference.cost import SMALL

    return asdict(planned.partition) | {
        "tiles": planned.partition.tiles,
        "image_tokens": planned.image_tokens,
        "prompt_tokens": planned.tokens,
        "positions": planned.model.max_positions,
        "fits": planned.fits,
        "flops": planned.flops(),
        "dtype": planned.dtype,
        "weight_bytes": planned.weight_bytes(),
        "folded_bytes": None if planned.dtype in SMALL else planned.folded_bytes,
        "kv_bytes": planned.kv_bytes,
        "activation_bytes": planned.activation_bytes,
    }


@app.command(
    name="import-weights",
    epilog=examples("ixc import-weights ./internlm-xcomposer2-4khd-7b ./ixc-4khd-7b"),
)
def import_weights(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Published folder: .bin shards or safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder for native safetensors.")],
) -> None:
    """Read published weights and write them as a native folder: safetensors, tokenizer.json, processor_config.json."""
    check_target(target)
    check_source(source)
    quiet_libraries()
    from ixc.model.loading import import_weights as run

    with progress("importing") as show:
        run(source, target, progress=show, complete=add_processor)
    print(target)


def main() -> None:
    """Entry point of the command `ixc`; always leaves by SystemExit."""
    with errors_to_exit_codes():
        code = app(standalone_mode=False, prog_name="ixc")
        sys.stdout.flush()
        raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
