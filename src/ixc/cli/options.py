"""Options that several commands share, and how an options class becomes a command.

@dataclass class AskOptions   --takes(AskOptions)-->   typer command   --one AskOptions-->   the command's function
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from ixc.cli.progress import note
from ixc.core.tiling import AUTO, AUTO_MOST, MAX_HD, RULES, check_budget
from ixc.errors import UsageError
from ixc.inference.settings import PLORA, RENAMED_PLORA
from ixc.utils.device_names import DEVICES, DTYPES

if TYPE_CHECKING:
    from ixc.inference.engine import Engine

Options = TypeVar("Options")


def examples(*lines: str) -> str:
    """Return the epilog of a command's help; blank lines keep one example per line."""
    return "\n\n".join(["Examples:", *lines])


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a function of one options object into a typer command with one parameter per field of that object.

    Args:
        options: frozen keyword-only dataclass; every field is annotated with a `typer.Option` or `typer.Argument`.
            Arguments keep the order of the fields.
    """
    hints = get_type_hints(options, include_extras=True)

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(options(**values))

        parameters = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if each.default is MISSING else each.default,
                annotation=hints[each.name],
            )
            for each in fields(options)  # pyright: ignore[reportArgumentType] - a dataclass, which no bound can say
        ]
        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess] - read by typer
        command.__annotations__ = {name: hints[name] for name in (each.name for each in parameters)}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate


def renamed(old: Mapping[str, str]) -> type[TyperCommand]:
    """Return a command class that accepts the old spellings of options, with a note, for one release.

    Args:
        old: old spelling -> new spelling, both with their dashes.
    """

    class RenamedOptions(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, [_new_spelling(word, old) for word in args])

    return RenamedOptions


def _new_spelling(word: str, old: Mapping[str, str]) -> str:
    name, equals, value = word.partition("=")
    if name not in old:
        return word
    note(f"{name} is now {old[name]}; the old spelling goes with the next release")
    return f"{old[name]}{equals}{value}"


def _renamed_plora(value: str) -> str:
    """Return the present name of a `--plora` value; old names are accepted with a note for one release."""
    if value in RENAMED_PLORA:
        note(f"--plora {value} is now --plora {RENAMED_PLORA[value]}")
    return RENAMED_PLORA.get(value, value)


def values(*names: str) -> Callable[[], list[str]]:
    """Return what shell completion offers for an option."""
    return lambda: list(names)


Model = Annotated[Path | None, typer.Option("--model", help="Model folder; without it the embedded model answers.")]


def _read_hd(value: Any) -> Any:
    """Return a number of tiles, or "auto"."""
    text = str(value)
    if text == AUTO or not text.lstrip("-").isdecimal():
        check_budget(text, name="'--hd'")  # type: ignore[arg-type]
        return text
    return int(text)


def _read_fixed_hd(value: Any) -> int:
    """Return a number of tiles."""
    found = _read_hd(value)
    if found == AUTO:
        raise UsageError(f"'--hd' is {AUTO}, and here all images share one number; use 1 to {MAX_HD}")
    return found


FixedHd = Annotated[
    int | None,
    typer.Option(
        "--hd",
        parser=_read_fixed_hd,
        metavar="INTEGER",
        help=f"HD-n: most tiles per image, 1 to {MAX_HD}; default: the model's.",
    ),
]
Hd = Annotated[
    Any,
    typer.Option(
        "--hd",
        parser=_read_hd,
        metavar=f"INTEGER|{AUTO}",
        help=f"HD-n: most tiles per image, 1 to {MAX_HD}, or {AUTO}: as many as keep the image's pixels, at most "
        f"{AUTO_MOST}; default: the model's.",
    ),
]
"""Checked by `check_tiling` as a `core.tiling.Budget`; typer takes no union."""
Partition = Annotated[
    str | None,
    typer.Option(
        "--partition",
        autocompletion=values(*RULES),
        help="How an image is tiled: original, native or fit; default: the model's.",
    ),
]
NewTokens = Annotated[int | None, typer.Option("--max-new-tokens", help="Longest answer; default: the model's.")]
Device = Annotated[
    str, typer.Option("--device", autocompletion=values("auto", *DEVICES), help="auto, cpu, cuda or mps.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", autocompletion=values("auto", *DTYPES), help="auto, float32, bfloat16 or float16.")
]
Plora = Annotated[
    str,
    typer.Option(
        "--plora",
        autocompletion=values(*PLORA),
        callback=_renamed_plora,
        help="separate, merged (faster prefill, the decoder's matrices twice in memory) or auto.",
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model at the first answer: minutes; for many answers.")
]
TileCache = Annotated[
    int | None, typer.Option("--tile-cache", min=0, help="Megabytes of cached tile features; default: 512, 0: none.")
]
PrefixCache = Annotated[
    int | None,
    typer.Option("--prefix-cache", min=0, help="Megabytes of cached prompt prefixes; default: 2048, 0: none."),
]
CacheMemory = Annotated[
    int | None,
    typer.Option("--cache-memory", min=0, help="Megabytes of both caches together; default: the sum of both options."),
]
Dpi = Annotated[int, typer.Option("--dpi", min=1, max=1200, help="Resolution of a PDF's pages, pixels per inch.")]
ScanPixels = Annotated[
    bool, typer.Option("--scan-pixels", help="Render a PDF page that is one scan in its own pixels, whatever --dpi is.")
]
PageNumber = Annotated[
    int | None, typer.Option("--page", min=1, help="Page of a PDF or TIFF; also written after its name: scan.pdf#3.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def load_engine(model: Path | None, *, device: str, dtype: str, **options: Any) -> Engine:
    """Load the model of a folder (None: the embedded one); further options as of `inference.engine.load`."""
    quiet_libraries()
    from ixc.inference.engine import load

    return load(model, device=device, dtype=dtype, **options)


def engine_options(
    *,
    plora: str,
    compile: bool,
    tile_cache: int | None = None,
    prefix_cache: int | None = None,
    cache_memory: int | None = None,
) -> dict[str, Any]:
    """Return the options of `load`: megabytes become bytes, options that were not given are left out."""
    sizes = {"tile_cache": tile_cache, "prefix_cache": prefix_cache, "cache_memory": cache_memory}
    given = {name: size << 20 for name, size in sizes.items() if size is not None}
    return {"plora": plora, "compile": compile, **given}


def quiet_libraries() -> None:
    """Silence the libraries' progress bars and advice, and keep them offline: stderr is for the command's own lines."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if "transformers" not in sys.modules:  # it reads these when it is imported, which a refused command never does
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        return
    from transformers.utils import logging as transformers_logging

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def quiet_torchao() -> None:
    """Keep torchao's notes off stderr: nothing that the user of a command can act on.

    transformers imports torchao where it is installed; torchao 0.18 logs each of its libraries that does not fit this
    torch, and uses what torch 2.13 logs as deprecated.
    """
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def add_processor(folder: Path) -> None:
    """Write tokenizer and processor in their native form, unless they exist or there is no source for them."""
    from ixc.inference.model_folder import TOKENIZERS, read_processor

    native = all((folder / name).is_file() for name in ("tokenizer.json", "processor_config.json"))
    if not native and any((folder / name).is_file() for name in TOKENIZERS):
        read_processor(folder).save_pretrained(folder)
