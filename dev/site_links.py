"""A hook of mkdocs (mkdocs.yml): links from docs/ into the rest of the repository.

The documents are read in the repository too, where `../examples/ask.py` is a link. In the site a picture outside
docs/ is copied, and any other link out of docs/ becomes its words. `tests/test_docs.py` checks that the targets exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURE = re.compile(r"!\[([^\]]*)\]\(\.\./(benchmarks/[\w.-]+)\)")
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+(?!reference/|\w[\w-]*\.md)[^)]*\)")
README = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./README\.md[^)]*\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures of benchmarks/ to the files of the site."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "benchmarks").glob("*.svg")):
        files.append(File.generated(config, f"benchmarks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of one page that leave docs/."""
    markdown = PICTURE.sub(r"![\1](\2)", markdown)
    markdown = README.sub(r"\1", markdown)
    return markdown if page.file.src_uri.startswith("reference/") else OUTSIDE.sub(r"\1", markdown)
