"""Headings and tables for the terminal."""

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from counterpoint.plan.layout import format_ranks
from counterpoint.report.summary import Summary
from counterpoint.report.words import bytes_text


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
    """Bytes by kind, with a row for each of `groups`, whose ranks need the same memory."""
    kinds = ("parameters", "gradients", "optimizer", "gathered", "activations", "sum")
    table = new_table("ranks", *kinds, right=kinds)
    for ranks in groups:
        used = summary.memory[ranks[0]]
        counts = (
            used.parameter_bytes, used.gradient_bytes, used.optimizer_bytes, used.gathered_bytes,
            used.activation_bytes, used.total_bytes,
        )  # fmt: skip
        table.add_row(format_ranks(ranks), *(bytes_text(count) for count in counts))
    return table


def memory_note(summary: Summary) -> Text:
    """A note on what the memory estimate includes."""
    if summary.batch is None:
        return Text("Activations are left out: they depend on a batch.", style="dim")
    return Text("Activations are an estimate from the first step's batch.", style="dim")
