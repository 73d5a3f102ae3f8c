"""Writes docs/json.md from the schema of the commands' JSON, `ixc.cli.json_schema`.

    python dev/json_page.py [--check]

--check writes nothing and ends with 1 where the page differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixc.cli.json_schema import COMMANDS, SCHEMA

PAGE = Path(__file__).parents[1] / "docs" / "json.md"

HEAD = """\
# JSON output and exit codes

Written by `python dev/json_page.py` from `ixc.cli.json_schema`; a test validates what each command prints.

Commands with `--json` print one JSON value on standard output: one object, for `ixc eval` a list, for `ixc chat` one
line a turn. Progress, notes and errors go to standard error, never to standard output. The schema as a file:

```sh
python -c "import json; from ixc.cli.json_schema import SCHEMA; print(json.dumps(SCHEMA))" > ixc.schema.json
```

An object may gain keys with a release; a key is never given another meaning.

## Exit codes

One rule for every command:

- **0**: done.
- **1**: the command was right and something that it met was not: a damaged file, a full disk, too little memory, a
  question longer than the context, a server that refuses, a package that is not installed, a question without an
  answer, records with errors in `ixc data check`. The same command may work once that is mended.
- **2**: the command must be changed: an unknown option, name or value, a number out of range, a file or folder that is
  named and does not exist (or, as a target, does), options that exclude each other or have no effect, an image that no
  partition of this setting fits.
- **3**: `ixc read`: the result is written, and some of its pages failed; they stand in it with their errors.
- **130**: interrupted by Ctrl-C.

Every failure is one line on standard error, `error: ...`, with the numbers and what to do. In Python the same errors
are `ixc.IxcError` and its subclasses (`ixc.errors`); `exit_code` of the class is the code.

## Progress for programs

The long commands (`read`, `train`, `eval`, `eval synth`, `eval pages`, `bench speed`, `synth`, `data check`,
`data pages`, `data typeset`, `data questions`, `import-weights`, `quantize`) take two options: `--quiet` leaves
standard error empty unless the command fails, and `--log-json` makes each of its lines a JSON object with `time`
(ISO 8601, UTC) and `event`:

| event | keys |
|---|---|
| `progress` | `what`, `done`, `total`: at most one a second, and the last |
| `note` | `message` |
| `log` | `message`; of a library's logger also `level`, `logger` |
| `error` | `message`, `exit_code` |

## Output by command

"""


def page() -> str:
    """Return the page in Markdown."""
    rows = [f"| `ixc {command}` | [`{name}`](#{name}) |" for command, name in COMMANDS.items()]
    listed = "\n".join(["| command | value |", "|---|---|", *rows])
    defined = [part for name, schema in SCHEMA["$defs"].items() for part in ("", f"## {name}", "", *_lines(schema))]
    return HEAD + "\n".join([listed, *defined]) + "\n"


def _lines(schema: dict[str, Any]) -> Iterator[str]:
    if schema["type"] == "array":
        yield f"A list. {schema['description']} {schema['items']['description']}"
        schema = schema["items"]
    else:
        yield schema["description"]
    yield from ("", "| key | type | |", "|---|---|---|")
    for name, value in schema["properties"].items():
        optional = "" if name in schema["required"] else " Optional."
        yield f"| `{name}` | {_kind(value)} | {value['description']}{optional} |"


def _kind(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[`{name}`](#{name})"
    kind = value["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(value['items'])}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"object of {_kind(value['additionalProperties'])}"
    return kind


def main() -> int:
    """Write the page, or compare it."""
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
