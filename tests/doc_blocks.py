"""Blocks of code in documents, and how each kind is run by `test_docs.py`.

A comment before a block says how: `<!-- test: HOW -->`. Without one the block is run with every test.

    slow        run with the slow tests
    server      run with the slow tests, against a light server with the embedded model
    parse       commands need a device, data or a program that is not here: their options are parsed
    network     fetches from a network, or changes the environment: programs and extras are checked
    elsewhere   run by another test, which is named
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "src/ixc/pretrained/nano/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
HOWS = ("", "slow", "server", "parse", "network", "elsewhere")
BLOCK = re.compile(r"(?:^<!-- test: (\w+)(?:: [^>]*)? -->\n)?^```(\w*)\n(.*?)^```$", re.S | re.M)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code."""

    where: str
    """File and line."""
    how: str
    """One of `HOWS`."""
    language: str
    """What stands behind the opening fence."""
    text: str
    """The lines between the fences."""


def blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a document in order."""
    text = path.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(2)) + 1
        where = f"{path.relative_to(ROOT)} line {line}"
        yield Block(where=where, how=found[1] or "", language=found[2], text=found[3])


def commands(block: Block) -> list[tuple[str, str]]:
    """Return (command, what the document shows of its output) of a console block."""
    parts = re.split(r"^\$ ", block.text, flags=re.M)
    assert not parts[0].strip(), f"{block.where}: a console block begins with '$ '"
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts[1:])]
