"""SVG elements for charts: escaped text, tags, numbers. Colours are CSS classes of `page.css`."""

from __future__ import annotations

from html import escape

__all__ = ["escape", "number", "tag", "text"]


def number(value: float) -> str:
    """Format a number with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return one element; `class_` becomes class, `a_b` a-b. `content` is markup and must be escaped already."""
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {k}="{escape(number(v) if isinstance(v, float) else str(v))}"' for k, v in pairs.items())
    return f"<{name}{words}>{content}</{name}>"


def text(words: str, **attributes: object) -> str:
    """Return a text element."""
    return tag("text", escape(words), **attributes)
