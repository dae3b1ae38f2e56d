"""Pages and what they are made of: sections with captions, figure cards, tables, notes."""

from collections.abc import Iterable, Sequence

from counterpoint.report.markup import tag, words
from counterpoint.report.style import CSS


def page(name: str, subtitle: str, *content: str) -> str:
    """A whole page that refers to nothing outside itself; `content` is markup, the rest is text."""
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", words(name)), f"<style>{CSS}</style>",
    )  # fmt: skip
    top = tag("header", tag("h1", words(name)), tag("p", words(subtitle), class_="sub"))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', top, *content)), lang='en')}\n"


def section(name: str, caption: str, *content: str) -> str:
    """A headed part of a page; the caption says what is seen and in which unit."""
    described = tag("p", words(caption), class_="caption") if caption else ""
    return tag("section", tag("h2", words(name)), described, *content)


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """The figures that matter most, as (value, what it is)."""
    return tag("div", *(tag("div", tag("b", words(v)), tag("span", words(n)), class_="card") for v, n in figures),
               class_="cards")  # fmt: skip


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> str:
    """A table of markup cells; the columns named in `right` hold numbers."""
    sides = ["right" if header in right else "left" for header in headers]
    head = tag("tr", *(tag("th", words(header), class_=side) for header, side in zip(headers, sides)))
    body = [tag("tr", *(tag("td", cell, class_=side) for cell, side in zip(row, sides))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def note(text: str) -> str:
    """One line of text that says what is missing, or what to mind."""
    return tag("p", words(text), class_="note")


def folded(name: str, text: str) -> str:
    """Long text behind a line that opens it."""
    return tag("details", tag("summary", words(name)), tag("pre", words(text)))


def named_module(module: str, colour: str) -> str:
    """A module's name behind a chip of its colour."""
    return tag("span", class_="chip", style=f"background:{colour}") + words(module)
