"""What lies in a prepared folder, and what is wrong with it, as text on a terminal."""

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table

from counterpoint.inspection.data_info import PERCENTILES, DataInfo, Spread
from counterpoint.inspection.data_lint import Lint
from counterpoint.report.terminal import new_table, title
from counterpoint.report.words import bytes_text, number_text

MOST_FILES = 10
"""Files that are named."""


def info_text(found: DataInfo) -> Iterator[RenderableType]:
    """Documents, tokens, items and files of a folder, and how documents fit into a sequence."""
    yield title(found.folder, found.identity)
    splits = ", ".join(f"{name} {count:,}" for name, count in found.splits.items())
    yield f"documents: {found.documents:,} ({splits})"
    vocabulary = "cannot be read" if found.vocabulary is None else f"vocabulary {found.vocabulary:,}"
    yield f"tokenizer: {vocabulary}, sha256 {found.tokenizer_sha256[:12]}"
    yield f"chat format: {found.chat or 'not said'}"
    yield f"loss: on {found.loss_share:.1%} of all tokens"
    yield f"files: {', '.join(_files(found.stores))}"
    yield _spreads(found)
    if found.fit:
        yield title("In a sequence")
        yield from (f"{split}: {fit.words}" for split, fit in found.fit.items())


def _files(stores: Mapping[str, int]) -> Iterator[str]:
    sizes = list(stores.items())
    yield from (f"{name} {bytes_text(size)}" for name, size in sizes[:MOST_FILES])
    others = [size for _name, size in sizes[MOST_FILES:]]
    if others:
        yield f"and {len(others):,} more {bytes_text(sum(others))}"


def _spreads(found: DataInfo) -> Table:
    columns = ("mean", "smallest", *(f"{percent} %" for percent in PERCENTILES), "largest")
    table = new_table("", "count", *columns, right=("count", *columns))
    if found.tokens is not None:
        table.add_row("tokens of a document", f"{found.documents:,}", *_cells(found.tokens))
    for kind, items in found.items.items():
        files = f" in {items.files:,} files" if items.files != items.items else ""
        for column, spread in items.sizes.items():
            table.add_row(f"{kind}{files}: {column}", f"{items.items:,}", *_cells(spread))
    return table


def _cells(spread: Spread) -> tuple[str, ...]:
    numbers = (spread.smallest, *spread.percentiles.values(), spread.largest)
    return (number_text(spread.mean), *(f"{number:,}" for number in numbers))


def lint_text(found: Lint) -> Iterator[str]:
    """The findings, each with its first places."""
    sample = "" if found.checked == found.documents else f" of {found.documents:,}"
    yield f"{found.folder}: {found.checked:,}{sample} documents read"
    for finding in found.findings.values():
        yield f"{finding.count:,} {finding.what}:"
        yield from (f"  {place}" for place in finding.places)
        if finding.count > len(finding.places):
            yield f"  and {finding.count - len(finding.places):,} more"
    if found.is_clean:
        yield "nothing found"
