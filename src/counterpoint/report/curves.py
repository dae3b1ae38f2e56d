"""The curves of a training report: loss, speed, gradient norms, learning rates."""

from counterpoint.report.chart import Line, chart
from counterpoint.report.markup import tag, words
from counterpoint.report.page import section
from counterpoint.report.palette import ACCENTS, INK, MUTED, module_colours
from counterpoint.report.run_record import Metrics

HALF = 490.0
"""Width of a chart that shares its line with another."""
EVALUATION_ACCENTS = ACCENTS[2:]
"""The first two accents are the usual modules'."""


def curve_sections(metrics: Metrics, modules: tuple[str, ...]) -> list[str]:
    """The loss over the whole width, everything else in pairs below it."""
    loss = section("Loss", "Cross entropy per loss token (nats), by optimizer step.", _loss(metrics))
    if not metrics.steps:
        return [loss]
    pairs = tag("div", _speed(metrics), _step_seconds(metrics), _norms(metrics, modules), _rates(metrics, modules),
                class_="pair")  # fmt: skip
    return [loss, section("Progress", "What was logged, by optimizer step.", pairs)]


def _loss(metrics: Metrics) -> str:
    lines = [Line("training", MUTED, tuple((float(r.step), r.loss) for r in metrics.steps))]
    for number, (split, losses) in enumerate(metrics.evaluations.items()):
        colour = EVALUATION_ACCENTS[number % len(EVALUATION_ACCENTS)]
        points = tuple((float(step), loss) for step, loss in losses)
        lines.append(Line(f"evaluation {split}", colour, points, marked=True))
    return chart(lines, "step", "loss (nats per token)")


def _speed(metrics: Metrics) -> str:
    points = tuple((float(r.step), r.tokens_per_second) for r in metrics.steps)
    return _small("Tokens per second, over all ranks", [Line("tokens/s", INK, points)], "tokens per second")


def _step_seconds(metrics: Metrics) -> str:
    points = tuple((float(r.step), r.step_seconds) for r in metrics.steps)
    return _small("Time per step", [Line("step", INK, points)], "seconds")


def _norms(metrics: Metrics, modules: tuple[str, ...]) -> str:
    """On powers of ten; the run's norm is the root of the modules' squares."""
    whole = Line("all", MUTED, tuple((float(r.step), r.gradient_norm) for r in metrics.steps), dashed=True)
    lines = [whole, *_by_module(metrics, modules, "gradient_norm")]
    return _small("Gradient norm before clipping, by module", lines, "2-norm", log=True)


def _rates(metrics: Metrics, modules: tuple[str, ...]) -> str:
    return _small("Learning rate, by module", _by_module(metrics, modules, "learning_rate"), "learning rate")
