"""HTML and SVG elements as strings; callers escape text with `words`."""

from html import escape

Attribute = str | int | float

_EMPTY = frozenset({"rect", "line", "circle", "path", "polyline", "img", "meta"})
"""Elements without content, which need no closing tag."""


def tag(name: str, *content: str, **attributes: Attribute) -> str:
    """An element around markup; `class_` and `stroke_width` name the attributes class and stroke-width."""
    words = "".join(f' {_name(key)}="{escape(_value(value))}"' for key, value in attributes.items())
    return f"<{name}{words}/>" if name in _EMPTY else f"<{name}{words}>{''.join(content)}</{name}>"


def words(text: str) -> str:
    """Plain text, safe inside an element."""
    return escape(text)


def label(x: float, y: float, text: str, **attributes: Attribute) -> str:
    """SVG text whose baseline is at `y`."""
    return tag("text", words(text), x=x, y=y, **attributes)


def title(text: str) -> str:
    """The tooltip of the surrounding element."""
    return tag("title", words(text))


def drawing(width: float, height: float, *content: str, description: str) -> str:
    """An SVG picture in pixels, which shrinks with the page; `description` is for screen readers."""
    return tag(
        "svg", *content, viewBox=f"0 0 {_value(width)} {_value(height)}", width=width, role="img",
        aria_label=description,
    )  # fmt: skip


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: Attribute) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
