"""Write SVG: escaped text, elements, numbers, and a file of its own. Charts of the HTML report take their colours from
CSS classes."""

from __future__ import annotations

from html import escape

__all__ = ["document", "escape", "number", "tag", "text"]


def number(value: float) -> str:
    """Format a number with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Write one element; `class_` becomes class, `a_b` becomes a-b. `content` is markup and must already be escaped."""
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {k}="{escape(number(v) if isinstance(v, float) else str(v))}"' for k, v in pairs.items())
    return f"<{name}{words}>{content}</{name}>"


def text(words: str, **attributes: object) -> str:
    """Write a text element."""
    return tag("text", escape(words), **attributes)


def document(content: str, *, width: int, height: int, font_size: int) -> str:
    """Write an SVG file with a white background.

    Args:
        content: markup.
        width: of the view box, pixels.
        height: of the view box, pixels.
        font_size: default size of text, pixels.
    """
    background = tag("rect", width=width, height=height, fill="white")
    style = f"font-family:sans-serif;font-size:{font_size}px"
    box = f"0 0 {width} {height}"
    return tag("svg", background + content, xmlns="http://www.w3.org/2000/svg", viewBox=box, style=style) + "\n"
