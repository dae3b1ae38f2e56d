"""HTML pages and their components: sections with captions, cards, tables, notes."""

from collections.abc import Iterable, Sequence

from counterpoint.report.markup import tag, words
from counterpoint.report.palette import FAINT, GOOD, INK, LINE, MUTED, SURFACE

_CSS = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #fff; color: {INK}; -webkit-print-color-adjust: exact; print-color-adjust: exact;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 1060px; margin: 0 auto; padding: 40px 30px 64px; }}
header {{ border-bottom: 1px solid {LINE}; padding-bottom: 18px; }}
h1 {{ font-size: 27px; line-height: 1.25; letter-spacing: -.015em; font-weight: 650; margin: 0; }}
h2 {{ font-size: 18px; letter-spacing: -.005em; font-weight: 620; margin: 0 0 2px; }}
h3 {{ font-size: 13px; font-weight: 600; margin: 14px 0 4px; color: {INK}; }}
section {{ margin-top: 38px; }}
p {{ margin: 6px 0; }}
.sub, .caption, .note {{ color: {MUTED}; }}
.sub {{ margin-top: 4px; }}
.caption {{ font-size: 13.5px; margin: 0 0 12px; max-width: 80ch; }}
.note {{ font-size: 13.5px; padding: 8px 12px; background: {SURFACE}; border-left: 3px solid {FAINT}; }}
.good {{ color: {GOOD}; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin-top: 18px; }}
.card {{ flex: 1 1 130px; background: {SURFACE}; border-radius: 8px; padding: 12px 14px; }}
.card b {{ display: block; font-size: 22px; line-height: 1.25; font-weight: 620; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }}
.card span {{ font-size: 12.5px; color: {MUTED}; }}
.narrow {{ max-width: 560px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 500; font-size: 12.5px; color: {MUTED}; border-bottom: 1px solid {FAINT};
  vertical-align: bottom; }}
td {{ border-bottom: 1px solid {LINE}; vertical-align: top; }}
th, td {{ padding: 6px 12px 6px 0; }}
th.right, td.right {{ text-align: right; white-space: nowrap; }}
.chip {{ display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }}
code, pre, .tokens span {{
  font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
pre {{ background: {SURFACE}; border-radius: 8px; padding: 12px 14px; margin: 8px 0 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
summary {{ cursor: pointer; color: {MUTED}; font-size: 13.5px; }}
details {{ margin-top: 10px; }}
svg {{ display: block; max-width: 100%; height: auto; }}
svg text {{ font-family: inherit; font-size: 11.5px; fill: {INK}; }}
svg .muted {{ fill: {MUTED}; }}
svg .right {{ text-anchor: end; }}
svg .middle {{ text-anchor: middle; }}
svg .small {{ font-size: 10px; }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: 24px 30px; }}
.samples {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; }}
.sample {{ display: flex; gap: 12px; border: 1px solid {LINE}; border-radius: 8px; padding: 12px; font-size: 13px;
  line-height: 1.4; break-inside: avoid; }}
.sample.exact {{ border-color: {GOOD}; }}
.sample img {{ width: 72px; height: 72px; object-fit: contain; flex: none; image-rendering: auto; }}
.sample p {{ margin: 0 0 4px; overflow-wrap: anywhere; }}
.sample small {{ color: {MUTED}; display: block; font-size: 11.5px; }}
.sample mark {{ background: #fbe3d6; color: inherit; border-radius: 2px; padding: 0 1px; }}
.tokens {{ line-height: 1.9; overflow-wrap: anywhere; margin: 8px 0; }}
.tokens span {{ border: 1px solid {LINE}; border-radius: 3px; padding: 0 2px; margin: 0 1px; white-space: pre-wrap;
  unicode-bidi: isolate; }}
.tokens .target {{ background: #dcf0e3; border-color: {GOOD}; }}
.tokens .special {{ font-weight: 650; background: {SURFACE}; }}
.tokens .target.special {{ background: #bfe3cc; }}
.tokens .item {{ background: #e3edf8; border-color: #2f6db5; }}
.tokens .cut {{ opacity: .35; text-decoration: line-through; }}
.items {{ display: flex; flex-wrap: wrap; gap: 14px; }}
.items figure {{ margin: 0; max-width: 100%; }}
.items img {{ max-width: 100%; image-rendering: pixelated; border: 1px solid {LINE}; }}
.items figcaption {{ font-size: 12.5px; color: {MUTED}; max-width: 48ch; overflow-wrap: anywhere; }}
.sample .badge {{ color: {GOOD}; font-weight: 600; font-size: 12px; }}
@media (max-width: 720px) {{ .pair {{ grid-template-columns: 1fr; }} main {{ padding: 24px 16px; }} }}
@media print {{ main {{ max-width: none; padding: 0; }} section {{ break-inside: avoid-page; }}
  body {{ font-size: 12px; }}
  details:not([open]) {{ display: none; }} @page {{ margin: 14mm; }} }}
"""
"""The style sheet of all pages: light, printable, system fonts."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A browser runs nothing on a page and fetches nothing for it, whatever it contains."""


def page(name: str, subtitle: str, *content: str) -> str:
    """A self-contained page; `content` is markup, the other arguments are text."""
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", words(name)), f"<style>{_CSS}</style>",
    )  # fmt: skip
    top = tag("header", tag("h1", words(name)), tag("p", words(subtitle), class_="sub"))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', top, *content)), lang='en')}\n"


def section(name: str, caption: str, *content: str) -> str:
    """A section with a heading; the caption explains what is shown, and in which unit."""
    described = tag("p", words(caption), class_="caption") if caption else ""
    return tag("section", tag("h2", words(name)), described, *content)


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Cards with the most important figures, as (value, label)."""
    return tag("div", *(tag("div", tag("b", words(v)), tag("span", words(n)), class_="card") for v, n in figures),
               class_="cards")  # fmt: skip


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> str:
    """A table of markup cells; the columns named in `right` hold numbers."""
    sides = ["right" if header in right else "left" for header in headers]
    head = tag("tr", *(tag("th", words(header), class_=side) for header, side in zip(headers, sides)))
    body = [tag("tr", *(tag("td", cell, class_=side) for cell, side in zip(row, sides))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def note(text: str) -> str:
    """A note about what is missing, or what to consider."""
    return tag("p", words(text), class_="note")


def folded(name: str, text: str) -> str:
    """Long text, collapsed below a summary line."""
    return tag("details", tag("summary", words(name)), tag("pre", words(text)))


def named_module(module: str, colour: str) -> str:
    """A module's name after a chip of its colour."""
    return tag("span", class_="chip", style=f"background:{colour}") + words(module)
