"""The curves of a training report: loss, speed, gradient norms, learning rates."""

from collections.abc import Callable

from counterpoint.report.chart import Line, chart
from counterpoint.report.markup import tag, words
from counterpoint.report.page import note, section
from counterpoint.report.palette import ACCENTS, INK, MUTED, module_colours
from counterpoint.report.run_record import GroupRecord, Metrics, ModuleRecord

HALF = 490.0
"""Width of a chart that shares a row with another."""
EVALUATION_ACCENTS = ACCENTS[2:]
"""The accents after the first two, which the usual modules have."""


def curve_sections(metrics: Metrics, modules: tuple[str, ...]) -> list[str]:
    """The sections of all curves: the loss over the full width, the others in pairs below it."""
    loss = section("Loss", "Cross entropy per loss token (nats), by optimizer step.", _loss(metrics))
    if not metrics.steps:
        return [loss]
    pairs = tag("div", _speed(metrics), _step_seconds(metrics), _norms(metrics, modules), _rates(metrics, modules),
                *_further(metrics), class_="pair")  # fmt: skip
    return [loss, section("Progress", "What was logged, by optimizer step.", pairs)]


def _loss(metrics: Metrics) -> str:
    lines = [Line("training", MUTED, tuple((float(r.step), r.loss) for r in metrics.steps))]
    for number, (split, losses) in enumerate(metrics.evaluations.items()):
        colour = EVALUATION_ACCENTS[number % len(EVALUATION_ACCENTS)]
        points = tuple((float(step), loss) for step, loss in losses)
        lines.append(Line(f"evaluation {split}", colour, points, marked=True))
    return chart(lines, "step", "loss (nats per token)")


def _further(metrics: Metrics) -> list[str]:
    """One chart for each further loss, since their magnitudes differ."""
    names = dict.fromkeys(name for record in metrics.steps for name in record.losses)
    return [
        _small(
            f"Loss: {name}",
            [Line(name, INK, tuple((float(r.step), r.losses[name]) for r in metrics.steps if name in r.losses))],
            "mean",
        )
        for name in names
    ]


def _speed(metrics: Metrics) -> str:
    points = tuple((float(r.step), r.tokens_per_second) for r in metrics.steps)
    return _small("Tokens per second, over all ranks", [Line("tokens/s", INK, points)], "tokens per second")


def _step_seconds(metrics: Metrics) -> str:
    points = tuple((float(r.step), r.step_seconds) for r in metrics.steps)
    return _small("Time per step", [Line("step", INK, points)], "seconds")


def _norms(metrics: Metrics, modules: tuple[str, ...]) -> str:
    """Gradient norms on a log scale; the norm of the run is the root of the modules' summed squares."""
    whole = Line("all", MUTED, tuple((float(r.step), r.gradient_norm) for r in metrics.steps), dashed=True)
    lines = [whole, *_by_module(metrics, modules, lambda record: record.gradient_norm)]
    lines += _by_group(metrics, modules, lambda record: record.gradient_norm)
    return _small("Gradient norm before clipping, by module", lines, "2-norm", log=True)


def _rates(metrics: Metrics, modules: tuple[str, ...]) -> str:
    lines = _by_module(metrics, modules, lambda record: record.learning_rate)
    lines += _by_group(metrics, modules, lambda record: record.learning_rate)
    return _small("Learning rate, by module", lines, "learning rate")


def _by_module(metrics: Metrics, modules: tuple[str, ...], value: Callable[[ModuleRecord], float]) -> list[Line]:
    """A line per module; all except the first are dashed, so that equal lines remain visible."""
    colours, lines = module_colours(modules), []
    for number, module in enumerate(modules):
        points = tuple((float(r.step), value(r.modules[module])) for r in metrics.steps if module in r.modules)
        lines.append(Line(module, colours[module], points, dashed=number > 0))
    return lines


def _by_group(metrics: Metrics, modules: tuple[str, ...], value: Callable[[GroupRecord], float]) -> list[Line]:
    """A dashed line in the module's colour for each parameter group."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in metrics.steps:
        for module in (module for module in modules if module in record.modules):
            for name, group in record.modules[module].groups.items():
                points.setdefault((module, name), []).append((float(record.step), value(group)))
    colours = module_colours(modules)
    return [Line(f"{m} {name}", colours[m], tuple(some), dashed=True) for (m, name), some in points.items()]


def _small(name: str, lines: list[Line], y_name: str, log: bool = False) -> str:
    picture = chart(lines, "step", y_name, width=HALF, height=220, log=log)
    return tag("div", tag("h3", words(name)), picture or note("Nothing to draw: no finite value was logged."))
