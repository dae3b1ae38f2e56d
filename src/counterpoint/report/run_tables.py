"""Tables of a training report: modules, datasets, and the measured timeline beside the predicted one."""

from collections.abc import Sequence

from counterpoint.report.estimate_html import MILLISECONDS, estimate_gantt
from counterpoint.report.explain import explain
from counterpoint.report.gantt import Bar, Row, gantt
from counterpoint.report.markup import tag, words
from counterpoint.report.page import named_module, note, section, table
from counterpoint.report.palette import module_colours
from counterpoint.report.plan_html import predicted_gantt
from counterpoint.report.run_record import GroupRecord, Measured, Metrics, ModuleRecord
from counterpoint.report.summary import Summary
from counterpoint.report.words import bytes_text, count_text, number_text
from counterpoint.simulate.estimate import Estimate

_NUMBERS = ("parameters", "gradient norm", "learning rate", "TFLOP/s per rank", "MFU, its ranks", "MFU, all ranks",
            "imbalance", "peak memory")  # fmt: skip


def module_section(modules: Sequence[str], planned: Summary | None, metrics: Metrics | None) -> str:
    """The table of modules at the last logged step."""
    if metrics is None or not metrics.steps:
        return note("The table of modules is left out: no step was logged.")
    last, colours = metrics.steps[-1], module_colours(modules)
    rows = []
    # A run that started over with other modules still has records of the old ones.
    for module, record in ((name, last.modules[name]) for name in modules if name in last.modules):
        layout = "" if planned is None else str(planned.plan.layouts[module]).partition(": ")[2]
        parameters = "" if planned is None else count_text(planned.plan.facts[module].parameters)
        name = named_module(module, colours[module])
        rows.append((name, words(layout), words(parameters), *(words(cell) for cell in _cells(record))))
        rows += [_group_row(group, of_group) for group, of_group in record.groups.items()]
    return section(
        "Modules",
        f"Step {last.step}. TFLOP/s include only gradients that are needed, and no activation recomputation. MFU is "
        "relative to the device's dense bf16 peak, over the module's own ranks and over all ranks. Imbalance is the "
        "cost of the most loaded lane divided by the mean; peak memory is the maximum over the module's ranks. The "
        "parameter groups of a module follow it.",
        table(("module", "layout", *_NUMBERS), rows, right=_NUMBERS),
    )


def data_section(metrics: Metrics | None) -> str:
    """The table of datasets with their censuses."""
    if metrics is None or not metrics.datasets:
        return ""
    numbers = ("documents", "counted", "kept", "cut", "left out", "without loss")
    rows = []
    for name, record in metrics.datasets.items():
        counts = (record.documents, record.counted, record.kept, record.cut,
                  sum(record.left_out.values()), sum(record.without_loss.values()))  # fmt: skip
        reasons = {**record.left_out, **record.without_loss}
        why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        rows.append((words(name), *(words(f"{count:,}") for count in counts), words(why)))
    return section(
        "Data",
        "Documents at the start of training. Cut: text beyond data.sequence_tokens is dropped. Left out: items do not "
        "fit. Without loss: no token is in the loss. Of synthetic documents an evenly spread sample is counted.",
        table(("dataset", *numbers, "why"), rows, right=numbers),
    )


def _cells(record: ModuleRecord) -> tuple[str, ...]:
    return (
        number_text(record.gradient_norm),
        number_text(record.learning_rate),
        number_text(record.tflops_per_rank),
        _share(record.mfu),
        _share(record.mfu_all),
        f"{record.imbalance:.3f}",
        bytes_text(record.peak_memory_bytes),
    )


def _group_row(name: str, record: GroupRecord) -> tuple[str, ...]:
    """The row of a parameter group, which has only some of the columns."""
    numbers = (number_text(record.gradient_norm), number_text(record.learning_rate))
    return (words(name), "", "", *map(words, numbers), *("" for _ in _NUMBERS[3:]))


def _share(value: float | None) -> str:
    return "no peak known" if value is None else f"{value:.1%}"


def timeline_section(
    modules: Sequence[str], planned: Summary | None, reason: str, measured: Measured | None, estimated: Estimate | None
) -> str:
    """The predicted timeline above the measured one, with the same width and colours."""
    if planned is None:
        parts = [note(f"The predicted timeline is left out: {reason}")]
    elif estimated is None:
        parts = [tag("h3", "Predicted, at unit costs"), predicted_gantt(planned)]
    else:
        on = f"Predicted on {estimated.hardware} ({estimated.source})"
        parts = [tag("h3", words(on)), estimate_gantt(planned.plan, estimated, by_rank=True)]
    if measured is None:
        parts.append(note("The measured timeline is left out: the run has no timeline.json."))
    else:
        colours = module_colours(modules)
        parts += [tag("h3", words(f"Measured, step {measured.step}")), _measured_gantt(measured, colours)]
    if planned is not None and measured is not None:
        parts += [tag("p", words(sentence)) for sentence in explain(planned.plan, measured, estimated)]
    caption = "The actions of each rank over time. Light is forward, full is backward; a number is a microbatch."
    return section("Timeline", caption, *parts)


def _measured_gantt(measured: Measured, colours: dict[str, str]) -> str:
    """A compute begins when the rows that it waits for are there."""
    rows = [
        Row(str(rank), tuple(Bar(one.action, one.ready * MILLISECONDS, one.end * MILLISECONDS) for one in row))
        for rank, row in measured.ranks.items()
    ]
    return gantt(rows, colours, "milliseconds from the step's first action")
