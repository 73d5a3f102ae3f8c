"""The little of SVG that the charts need: escaped text, tags, numbers. Colours are classes of `page.css`."""

from __future__ import annotations

from html import escape

__all__ = ["escape", "number", "tag", "text"]


def number(value: float) -> str:
    """Two digits behind the point at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One element; `class_` is class, `a_b` is a-b. `content` is markup and must be escaped already."""
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {k}="{escape(number(v) if isinstance(v, float) else str(v))}"' for k, v in pairs.items())
    return f"<{name}{words}>{content}</{name}>"


def text(words: str, **attributes: object) -> str:
    """A text element."""
    return tag("text", escape(words), **attributes)
