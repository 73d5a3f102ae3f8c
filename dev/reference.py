"""Write the reference pages of docs/reference from the code: `python dev/reference.py [--check]`.

    commands of ixc.cli.main      --> cli.md            every command with its arguments, options and defaults
    public names of ixc           --> python.md         signatures and docstrings
    ixc.train.config              --> recipes.md        the fields of a recipe
    accesses to os.environ        --> environment.md    every variable that the code reads or sets

`tests/test_docs.py` fails where a page differs from the code, or a variable is missing from `VARIABLES`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
SOURCE = ROOT / "src"
HEAD = "<!-- Made by dev/reference.py from the code; do not edit. -->\n"
WIDE = 100
"""Longest signature on one line, characters."""

MORE = (
    ("ixc.inference.sampling", "Sampling"),
    ("ixc.inference.request", "Answer"),
    ("ixc.inference.cost", "plan"),
    ("ixc.inference.cost", "Plan"),
    ("ixc.core.tiling", "Partition"),
)
"""(module, name) shown beside the names of `ixc.__all__` and the class that `ixc.load` returns."""

RECIPE = ("TrainConfig", "TrainedPart", "Resolution", "Adapter")
"""Classes of `ixc.train.config` that a recipe is made of."""

VARIABLES = {
    "GOMP_SPINCOUNT": "read only: where it is set, `OMP_WAIT_POLICY` is left alone",
    "HF_HUB_DISABLE_PROGRESS_BARS": "set to 1 by the commands unless it is set: no progress bars of the Hub's library",
    "HF_HUB_OFFLINE": "set to 1 by the commands unless it is set: model folders are local, nothing is fetched",
    "IXC_API_KEY": "key that clients of `ixc serve` must send; `--api-key` comes first",
    "IXC_KERNELS": "`0`: do not build and use the C kernels; results then come from torch alone",
    "IXC_VLLM_MIDDLEWARE": "settings that `ixc serve --engine vllm` hands to its middleware; not to be set by hand",
    "KMP_BLOCKTIME": "read only: where it is set, `OMP_WAIT_POLICY` is left alone",
    "LOCAL_RANK": "set by torchrun and accelerate: number of the process on its machine, and of its device",
    "MKL_NUM_THREADS": "read only: where it is set, `OMP_NUM_THREADS` is left alone",
    "OMP_NUM_THREADS": "threads; set to a container's CPU quota where there is one, unless it is set",
    "OMP_WAIT_POLICY": "set to `passive` unless it is set: threads that wait do not spin",
    "OPENAI_API_KEY": "key that `ixc eval --endpoint` and `--judge` send",
    "RANK": "set by torchrun and accelerate: number of the process among all",
    "RAY_BACKEND_LOG_LEVEL": "set to `fatal` with `--ray` unless it is set: Ray's own lines stay off stderr",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "set to 1 with `--ray` unless it is set: the commands have a line of their own",
    "RAY_USAGE_STATS_ENABLED": "set to 0 with `--ray` unless it is set: Ray reports nothing about the run",
    "TRANSFORMERS_VERBOSITY": "set to `error` by the commands unless it is set: no advice of transformers on stderr",
    "VLLM_MAX_IMAGE_PIXELS": "set for vLLM from `--max-pixels`",
    "VLLM_NO_USAGE_STATS": "set to 1 for vLLM: it sends no statistics",
    "WORLD_SIZE": "set by torchrun and accelerate: number of processes",
    "XDG_CACHE_HOME": "folder of caches; compiled kernels lie in its subfolder `ixc`; default: `~/.cache`",
}
"""Variables of the package -> what they do."""


# -- commands -----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Return the reference of the command line."""
    import typer.main

    from ixc.cli.main import app

    root = typer.main.get_command(app)
    lines = ["# Command line", "", "`ixc COMMAND --help` prints the same.", ""]
    commands = list(_commands(root, ""))
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`ixc {name}`](#{_anchor('ixc ' + name)}) | {_first(command.help)} |" for name, command in commands]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---:|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in exit_codes().items()]
    for name, command in commands:
        lines += ["", f"## ixc {name}", "", _text(command.help), ""]
        lines += _arguments(command, f"ixc {name}")
    return "\n".join(lines) + "\n"


def exit_codes() -> dict[int, str]:
    """Return what each exit code means, with the errors that end in it."""
    import ixc.errors
    from ixc.cli.terminal import INTERRUPTED

    found: dict[int, list[str]] = {}
    for name, each in vars(ixc.errors).items():
        if inspect.isclass(each) and issubclass(each, ixc.errors.IxcError):
            found.setdefault(each.exit_code, []).append(f"`{name}`")
    codes = {0: "done", INTERRUPTED: "interrupted (Ctrl-C)"}
    codes |= {code: f"{', '.join(names)}" for code, names in found.items()}
    return dict(sorted(codes.items()))


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of all leaves, in the order of `ixc --help`."""
    for key, each in getattr(command, "commands", {}).items():
        below = f"{name} {key}".strip()
        if getattr(each, "commands", None):
            if each.invoke_without_command and each.params:
                yield below, each
            yield from _commands(each, below)
        elif not each.hidden:
            yield below, each


def _arguments(command: Any, name: str) -> list[str]:
    """Return usage, table of arguments and options, and examples of a command."""
    shown = [p for p in command.params if not getattr(p, "hidden", False) and "--help" not in p.opts]
    first = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_metavar, first)])
    lines = ["```text", usage, "```", ""]
    if shown:
        lines += ["| argument, option | default | meaning |", "|---|---|---|"]
        lines += [
            f"| {_spelled(p)} | {_default(p)} | {_cell(getattr(p, 'help', None) or '')} |" for p in first + options
        ]
    if command.epilog:
        lines += ["", "```text", *filter(None, command.epilog.split("\n")), "```"]
    return lines


def _metavar(param: Any) -> str:
    return param.metavar or param.name.upper()


def _spelled(param: Any) -> str:
    """Return the spelling of a parameter with its value: `--hd INTEGER`."""
    if param.param_type_name == "argument":
        return f"`{_metavar(param)}`".replace("|", "\\|")
    words = ", ".join(param.opts) + "".join(f" / {each}" for each in param.secondary_opts)
    value = "" if param.is_flag or param.count else f" {param.metavar or _kind(param)}"
    low, high = getattr(param.type, "min", None), getattr(param.type, "max", None)
    limits = "".join(f", {word} {limit}" for word, limit in (("from", low), ("to", high)) if limit is not None)
    repeated = ", may be repeated" if param.multiple else ""
    return f"`{words}{value}`".replace("|", "\\|") + limits + repeated


def _kind(param: Any) -> str:
    """Return the type of an option's value, by one name whatever the release of typer."""
    name = param.type.name.split()[0].upper()
    return {"INT": "INTEGER", "STR": "TEXT"}.get(name, name)


def _default(param: Any) -> str:
    if param.required:
        return "required"
    value = param.default
    if callable(value) or value is None or value is False or value == () or str(value).startswith("Sentinel"):
        return ""
    return f"`{value}`"


# -- Python -------------------------------------------------------------------------------------------------------


def python_page() -> str:
    """Return the reference of the public names of `ixc`, the objects they give, and the errors."""
    import ixc

    lines = ["# Python", "", "`import ixc` imports no torch; a name is looked up when it is first used.", ""]
    shown = {name: getattr(ixc, name) for name in ixc.__all__}
    result = typing.get_type_hints(ixc.load)["return"]
    extra = [(result.__module__, result.__name__), *MORE]
    objects = [(f"ixc.{name}", value) for name, value in shown.items() if name != "IxcError"]
    for module, name in extra:
        value = getattr(importlib.import_module(module), name)
        if all(value is not other for other in shown.values()):
            objects.append((f"{module}.{name}", value))
    for name, value in objects:
        lines += _described(name, value)
    lines += ["## Errors", "", "| error | is a | exit code | when |", "|---|---|---:|---|"]
    for name, each in vars(importlib.import_module("ixc.errors")).items():
        if inspect.isclass(each):
            base = each.__mro__[1].__name__
            lines.append(f"| `ixc.errors.{name}` | `{base}` | {each.exit_code} | {_cell(inspect.getdoc(each) or '')} |")
    return "\n".join(lines) + "\n"


def recipes_page() -> str:
    """Return the fields of a recipe."""
    module = importlib.import_module("ixc.train.config")
    lines = ["# Fields of a recipe", "", "A recipe's `recipe()` returns a `TrainConfig` (`ixc.train.config`).", ""]
    parts = ", ".join(f"`{part}`" for part in typing.get_args(module.Part))
    for name in RECIPE:
        lines += _described(f"ixc.train.config.{name}", getattr(module, name), signature=False)
    lines += ["## Parts", "", f"A `part` is one of {parts}."]
    return "\n".join(lines) + "\n"


def _described(name: str, value: Any, *, signature: bool = True) -> list[str]:
    """Return heading, signature, docstring, fields and methods of a public object."""
    lines = [f"## {name}", ""]
    if not inspect.isclass(value):
        return [*lines, *_code(value.__name__, value), "", _docstring(value), ""]
    if signature and not dataclasses.is_dataclass(value) and "__init__" in vars(value):
        lines += [*_code(value.__name__, value), ""]
    lines += [_docstring(value), ""]
    if dataclasses.is_dataclass(value):
        lines += [*_fields(value), ""]
    for method, each in vars(value).items():
        function = each.fget if isinstance(each, property) else getattr(each, "__func__", each)
        own = inspect.isfunction(function) and function.__module__ == value.__module__
        if method.startswith("_") or not own or not function.__doc__:
            continue
        title = f"### {name.rpartition('.')[2]}.{method}"
        body = [] if isinstance(each, property) else [*_code(method, function), ""]
        lines += [title, "", *body, _docstring(function), ""]
    return lines


def _code(name: str, function: Any) -> list[str]:
    """Return the signature as a block of code, one parameter per line where it is long."""
    found = inspect.signature(function)
    kept = [each for each in found.parameters.values() if each.name != "self"]
    found = found.replace(parameters=kept)
    text = _plain(f"{name}{found}")
    if len(text) > WIDE:
        star, parts = False, []
        for each in kept:
            if each.kind is each.KEYWORD_ONLY and not star:
                parts.append("*")
                star = True
            star = star or each.kind is each.VAR_POSITIONAL
            parts.append(_plain(str(each)))
        end = _plain(str(found.replace(parameters=[]))).removeprefix("()")
        text = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])
    return ["```text", text, "```"]


def _plain(text: str) -> str:
    """Return a signature without the modules of types, and without addresses of default objects."""
    text = re.sub(r"<[^>]*>", "...", text).replace("'", "")
    return re.sub(r"\b(?:typing|collections\.abc|ixc|torch|pathlib)\.(?:[a-z_]+\.)*(?=[A-Z])", "", text)


def _fields(value: Any) -> list[str]:
    """Return a table of the fields of a dataclass, with the docstrings beneath them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(tree, ast.ClassDef)
    about, types = {}, {}
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            types[node.target.id] = ast.unparse(node.annotation)
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                about[node.target.id] = str(below.value.value)
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for each in (each for each in dataclasses.fields(value) if each.name in types):
        default = "required" if each.default is dataclasses.MISSING else f"`{each.default!r}`"
        default = "" if each.default_factory is not dataclasses.MISSING else default
        kind = f"`{types[each.name]}`".replace("|", "\\|")
        lines.append(f"| `{each.name}` | {kind} | {_cell(default)} | {_cell(about.get(each.name, ''))} |")
    return lines


SECTIONS = ("Args", "Returns", "Raises", "Yields", "Attributes")


def _docstring(value: Any) -> str:
    """Return a docstring as Markdown: sections as bold words, arguments as lists, indented lines as code."""
    lines, section, listed = [], "", False
    for line in (inspect.getdoc(value) or "").replace("``", "`").splitlines():
        heading = re.fullmatch(rf"({'|'.join(SECTIONS)}):\s*(.*)", line)
        if heading:
            section, listed = heading[1], False
            lines += ["", f"**{section}**", ""]
            line = f"    {heading[2]}" if heading[2] else ""
        item = re.match(r" {4}(\*{0,2}\w[\w, *]*): (.*)", line) if section else None
        if not section:
            lines.append(line if line.startswith("    ") else _escaped(line))
        elif item and section != "Returns":
            lines.append(f"- `{item[1]}`: {_escaped(item[2])}")
            listed = True
        elif line.strip():
            lines.append(f"  {_escaped(line.strip())}" if listed else _escaped(line.strip()))
    return "\n".join(lines).strip()


def _escaped(text: str) -> str:
    """Return text with angle brackets kept from being HTML, outside of code."""
    parts = text.split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _text(text: str | None) -> str:
    return _escaped(inspect.cleandoc(text or ""))


def _first(text: str | None) -> str:
    return _cell((text or "").strip().split("\n\n")[0])


def _anchor(title: str) -> str:
    return re.sub(r"[^\w-]+", "-", title.lower()).strip("-")


# -- environment --------------------------------------------------------------------------------------------------


def environment_page() -> str:
    """Return the table of environment variables."""
    used = variables()
    lines = ["# Environment variables", ""]
    lines += ["Every variable that the package reads or sets, with the files that name it.", ""]
    lines += ["| variable | what it does | in |", "|---|---|---|"]
    for name in sorted(used):
        lines.append(f"| `{name}` | {VARIABLES.get(name, '')} | {', '.join(f'`{path}`' for path in used[name])} |")
    lines += ["", "Libraries beneath read their own, such as `CUDA_VISIBLE_DEVICES` (torch),"]
    lines += ["`HF_HOME` (the Hub's library) and the `VLLM_...` of vLLM."]
    return "\n".join(lines) + "\n"


def variables() -> dict[str, list[str]]:
    """Return the environment variables of the code -> files that name them.

    Raises:
        ValueError: an access whose name cannot be found by reading the code.
    """
    constants = _constants()
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, names in ((node, _accessed(node, tree, constants)) for node in ast.walk(tree)):
            if names is None:
                raise ValueError(f"{path} line {node.lineno}: write the variable's name as a constant")
            for name in names:
                found.setdefault(name, set()).add(path.relative_to(SOURCE).as_posix())
    return {name: sorted(files) for name, files in found.items()}


def _constants() -> dict[str, tuple[str, ...]]:
    """Return the constants of all modules that hold one word, a tuple or a dictionary of words."""
    found: dict[str, tuple[str, ...]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[target.id] = (value.value,)
            if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
                words = [
                    key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
                ]
                found[target.id] = tuple(words)
            if isinstance(target, ast.Name) and isinstance(value, ast.Tuple):
                listed = [part.value if isinstance(part, ast.Constant) else ast.unparse(part) for part in value.elts]
                found[target.id] = tuple(word for part in listed for word in found.get(str(part), (str(part),)))
    return found


def _accessed(node: ast.AST, tree: ast.Module, constants: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the variables of one access to the environment; none elsewhere, None where the name is not found."""
    key: ast.expr | None = None
    if isinstance(node, ast.Subscript) and _is_environment(node.value):
        key = node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_environment(node.func.value):
        key = node.args[0] if node.func.attr in ("get", "setdefault", "pop") else None
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("getenv", "putenv"):
        key = node.args[0]
    elif isinstance(node, ast.Compare) and _is_environment(node.comparators[0]):
        key = node.left
    elif isinstance(node, ast.FunctionDef) and node.name == "_environment":  # what vLLM's process gets beside ours
        keys = [k for each in ast.walk(node) if isinstance(each, ast.Dict) for k in each.keys if k is not None]
        return tuple(word for k in keys for word in _words(k, tree, constants) or ())
    return () if key is None else _words(key, tree, constants)


def _is_environment(node: ast.expr) -> bool:
    return ast.unparse(node) in ("os.environ", "environ")


def _words(key: ast.expr, tree: ast.Module, constants: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the words that an expression can be: a constant, a module's constant, or the keys that a loop takes."""
    if isinstance(key, ast.Constant):
        return (str(key.value),)
    if not isinstance(key, ast.Name):
        return None
    if key.id in constants:
        return constants[key.id]
    words: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.comprehension) and key.id in _names(node.target):
            source = next((each.id for each in ast.walk(node.iter) if isinstance(each, ast.Name)), "")
            words += constants.get(source, ())
    return tuple(words) or None


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


PAGES_OF: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "python.md": python_page,
    "recipes.md": recipes_page,
    "environment.md": environment_page,
}


def main() -> int:
    """Write all pages; with `--check` write nothing and return 1 if one is out of date."""
    from ixc.cli.options import quiet_torchao

    quiet_torchao()
    made = {name: HEAD + "\n" + page() for name, page in PAGES_OF.items()}
    stale = [n for n, text in made.items() if not (PAGES / n).is_file() or (PAGES / n).read_text() != text]
    if "--check" in sys.argv:
        print("\n".join(f"docs/reference/{name} differs from the code; run: just figures" for name in stale))
        return len(stale) > 0
    PAGES.mkdir(exist_ok=True)
    for name in stale:
        (PAGES / name).write_text(made[name])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
