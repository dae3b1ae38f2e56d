"""Learning-rate schedules."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from counterpoint.kinds.drawn import Drawn, nothing_drawn
from counterpoint.registry import Registry
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Index, Section, Share


class LearningRateSection(Section):
    """The base of learning-rate schedules: linear warm-up to lr, then the kind's curve, never below `minimum` x lr."""

    kind: str
    """How the learning rate changes after warm-up."""
    warmup_steps: Index = 0
    """Optimizer steps in which the learning rate rises linearly to `lr`. Unit: steps."""
    minimum: Share = 0.0
    """Lowest learning rate after warm-up, as a share of `lr`. Unit: share of lr."""


class DecaySection(LearningRateSection):
    """One curve from the end of warm-up to `minimum` x lr at step `decay_steps`."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    decay_steps: Count | None = None
    """Optimizer step at which the decay ends, counted from the start of the training, more than `warmup_steps`; null:
    the last step of the training. Unit: steps."""


class WsdSection(LearningRateSection):
    """Warm-up, stable, decay (WSD): lr is constant until the cooldown, the last steps of the training."""

    kind: Literal["wsd"]
    cooldown_steps: Count | None = None
    """Optimizer steps of the cooldown, at most all after warm-up; null: given by `cooldown_share`. Unit: steps."""
    cooldown_share: Share | None = None
    """Cooldown as a share of all steps, in place of `cooldown_steps`; null: a fifth. Unit: share of steps."""
    shape: Literal["linear", "cosine", "sqrt"] = "sqrt"
    """Curve of the cooldown; `sqrt`, 1 - sqrt(the share that is done), falls steeply first."""


class InverseSqrtSection(LearningRateSection):
    """lr x sqrt(warmup_steps / step), steps counted from 1: it meets lr at the end of warm-up and has no last step."""

    kind: Literal["inverse_sqrt"]


Left = Callable[[Any, int, int], float]
"""(section, step >= warmup_steps, counted from 0, total steps) -> the remaining share of lr - minimum x lr, 1 to 0."""


def _no_problems(_where: str, _section: Any) -> Iterator[Problem]:
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class RateKind:
    """A kind of learning-rate schedule: its section, its curve `left` after warm-up, the `problems` of a section at the
    key `where`, and the values `drawn` for its further keys in `verify --random`."""

    section: type[LearningRateSection]
    left: Left
    problems: Callable[[str, Any], Iterator[Problem]] = _no_problems
    drawn: Drawn = nothing_drawn


CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda _done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "sqrt": lambda done: 1.0 - math.sqrt(done),
}
"""From the share of a decay that is done to the remaining share; cosine: Loshchilov and Hutter (2016, arXiv:1608.03983)
without restarts, sqrt: Haegele et al. (2024, arXiv:2405.18392)."""

DEFAULT_COOLDOWN = 0.2
"""As a share of all steps; Haegele et al. find a fifth as good as a cosine over all steps."""


def _left_of_decay(section: DecaySection, step: int, total_steps: int) -> float:
    end = total_steps if section.decay_steps is None else section.decay_steps
    return CURVES[section.kind](_done(section.warmup_steps, step, end))


def _left_of_cooldown(section: WsdSection, step: int, total_steps: int) -> float:
    """Hu et al. (2024, arXiv:2404.06395)."""
    steps = section.cooldown_steps
    if steps is None:
        share = DEFAULT_COOLDOWN if section.cooldown_share is None else section.cooldown_share
        steps = round(share * total_steps)
    begin = max(total_steps - steps, section.warmup_steps)
    return CURVES[section.shape](_done(begin, step, total_steps)) if step > begin else 1.0


def _left_of_inverse_sqrt(section: InverseSqrtSection, step: int, _total_steps: int) -> float:
    """Vaswani et al. (2017, arXiv:1706.03762)."""
    return math.sqrt(max(section.warmup_steps, 1) / (step + 1))


def _done(begin: int, step: int, end: int) -> float:
    """The share of the steps from `begin` to `end` that are before `step`."""
    return min((step - begin) / max(end - begin, 1), 1.0)


def _decay_problems(where: str, section: DecaySection) -> Iterator[Problem]:
    if section.decay_steps is not None and section.decay_steps <= section.warmup_steps:
        expected, remedy = f"more than warmup_steps, {section.warmup_steps}", "raise it or shorten the warm-up"
        yield Problem(f"{where}.decay_steps", f"{section.decay_steps}", expected, remedy)


def _cooldown_problems(where: str, section: WsdSection) -> Iterator[Problem]:
    if section.cooldown_steps is not None and section.cooldown_share is not None:
        expected = f"null, because cooldown_steps says {section.cooldown_steps}"
        yield Problem(f"{where}.cooldown_share", show(section.cooldown_share), expected, "leave one of them out")


_DECAY = RateKind(section=DecaySection, left=_left_of_decay, problems=_decay_problems)

LEARNING_RATES = Registry[RateKind](
    "learning_rate",
    {
        "constant": _DECAY,
        "linear": _DECAY,
        "cosine": _DECAY,
        "wsd": RateKind(section=WsdSection, left=_left_of_cooldown, problems=_cooldown_problems),
        "inverse_sqrt": RateKind(section=InverseSqrtSection, left=_left_of_inverse_sqrt),
    },
)


def learning_rate(highest: float, schedule: LearningRateSection, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step` (from 0) of a training of `total_steps`.

    Warm-up ends at `highest`; afterwards the rate is between `minimum` x `highest` and `highest`.
    """
    if step < schedule.warmup_steps:
        return highest * (step + 1) / schedule.warmup_steps
    left = LEARNING_RATES[schedule.kind].left(schedule, step, total_steps)
    return highest * (schedule.minimum + (1.0 - schedule.minimum) * left)
