"""Headings and tables for the terminal."""

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from counterpoint.plan.layout import format_ranks
from counterpoint.report.summary import Summary
from counterpoint.report.words import bytes_text
from counterpoint.simulate.memory import ALLOCATOR_SHARE, CONTEXT_BYTES


def title(words: str, detail: str = "") -> Text:
    """A heading, with a dim detail after it."""
    return Text.assemble("\n", (words, "bold"), (f"  {detail}" if detail else "", "dim"))


def new_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An open table; the columns named in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in right)
    return table


def memory_table(summary: Summary, groups: tuple[tuple[int, ...], ...]) -> Table:
    """Bytes at the peak, with a row for each of `groups`, whose ranks need the same memory."""
    kinds = ("static", "gradients", "gathered", "rows", "peak")
    table = new_table("ranks", *kinds, "at", right=kinds)
    for ranks in groups:
        used = summary.memory[ranks[0]]
        counts = (
            used.static_bytes, used.gradient_bytes, used.gathered_bytes,
            used.activation_bytes + used.working_bytes, used.total_bytes,
        )  # fmt: skip
        table.add_row(format_ranks(ranks), *(bytes_text(count) for count in counts), used.at)
    return table


def memory_note(summary: Summary) -> Text:
    """A note on what the memory estimate includes."""
    return Text(memory_words(summary), style="dim")


def memory_words(summary: Summary) -> str:
    """What the figures of memory mean, for terminal and page."""
    fullest = max(summary.memory.values(), key=lambda used: used.total_bytes)
    rows = "Rows are left out: they depend on a batch." if summary.batch is None else "Rows are those of this batch."
    beside = (
        f" On a GPU the allocator and the context add about {bytes_text(fullest.allocator_bytes)} to the fullest rank "
        f"({ALLOCATOR_SHARE:.0%} and {bytes_text(CONTEXT_BYTES)}, assumed)."
    )
    layers = {"plain": "plain torch", "kernels": "kernels of GPUs", "compiled": "compiled layers"}[summary.plan.path]
    return (
        "Parameters and optimizer state are static; the rest is what tensors take at the action with the peak; rows "
        f"are those kept for backward and those at work, with {layers}. {rows}{beside}"
    )
