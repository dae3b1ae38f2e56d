"""One case of `verify`: train two steps on a layout and in one plain process, and compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from counterpoint.check.proof import check_plan
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import Reader
from counterpoint.execute.groups import Groups
from counterpoint.optimizers.groups import OTHERS
from counterpoint.parallelize.blocks import Block
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.samples import Document
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import open_run
from counterpoint.setup.warm_starts import warm_starts_of
from counterpoint.train.engine import Engine, StepResult
from counterpoint.train.parameters import LocalParameter
from counterpoint.train.warm.start import warm_start
from counterpoint.verify.compare import TOLERANCES, Difference, Observation, compare_step, first_wrong, worst_of_kinds
from counterpoint.verify.known import Seen
from counterpoint.verify.member import Member
from counterpoint.verify.reference import Reference

STEPS = 2
CLOSEST_MARGIN = 1e-12

Pieces = dict[tuple[int, str, str], tuple[Block, torch.Tensor]]
"""A rank's blocks of a step's results, by step, kind and key, on the CPU: a device may lack memory for two steps."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The worst difference of each kind over all steps, the tolerance for them, and the first one above it, in the
    order in which a step computes what is compared.

    `margin` is the smallest difference of scores between an expert that a row chose and one that it did not choose.
    """

    differences: tuple[Difference, ...]
    tolerance: float
    loss: float
    first: Difference | None = None
    margin: float = math.inf

    @property
    def worst(self) -> Difference:
        """The largest difference of any kind."""
        return max(self.differences, key=lambda difference: difference.value)

    @property
    def is_tied(self) -> bool:
        """Whether a row's choice of experts depends on rounding, so that both sides may rightly differ."""
        return self.margin < CLOSEST_MARGIN

    @property
    def holds(self) -> bool:
        """Whether the two sides are equal."""
        return self.first is None


def verify_task(member: Member, config: Config) -> CaseResult | None:
    """A pool task: run one case on the first `world.size` ranks; rank 0 returns the result."""
    plan, models, corpus = open_run(config)
    rank = member.world.rank
    if rank == plan.placement.active[-1]:
        check_plan(plan)
    groups = member.groups(plan)
    if rank not in plan.placement.active:
        return None
    engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe,))
    try:
        warm_start(warm_starts_of(config, models), engine.held)
        ours, batches = _train(config, engine, groups, corpus, rank)
    finally:
        engine.close()
    if rank != plan.placement.active[0]:
        return None
    refer = partial(_refer, config, corpus, batches, member.world.device)
    return _compare(config, ours, member.known.of(config, batches, refer))


def _train(
    config: Config, engine: Engine, groups: Groups, corpus: Corpus, rank: int
) -> tuple[list[Observation], list[list[Document]]]:
    reader = Reader(engine.plan, rank, corpus.sources, dtype_of(config.training.precision.compute))
    plan = engine.plan
    batches: list[list[Document]] = []
    all_packs = [corpus.packs(step) for step in range(STEPS)]
    inputs = [reader.read(plan.batch(step, packs)) for step, packs in enumerate(all_packs)]
    depth = max(plan.stages.ahead.values(), default=0)
    for early in inputs[:depth]:
        engine.run_ahead(early)
    pieces: Pieces = {}
    results: list[StepResult] = []
    for step, packs in enumerate(all_packs):
        ahead = inputs[step + depth] if depth and step + depth < STEPS else None
        if rank == plan.placement.active[-1 - step % len(plan.placement.active)]:
            check_plan(plan, inputs[step].batch, None if ahead is None else ahead.batch)
        before = {one.key: one.value.clone() for one in engine.held}

        def capture(parameters: Sequence[LocalParameter], into: Pieces = pieces, step: int = step) -> None:
            into.update({(step, "gradient", p.key): (p.block, p.gradient.detach().clone().cpu()) for p in parameters})

        engine.inspect = capture
        results.append(engine.train_step(inputs[step], ahead))
        pieces |= {(step, "update", one.key): (one.block, (one.value - before[one.key]).cpu()) for one in engine.held}
        batches.append([document for pack in packs for document in pack])
    whole = _gather(pieces, groups)

    def seen(step: int, kind: str) -> dict[str, torch.Tensor]:
        return {key: tensor for (of, what, key), tensor in whole.items() if (of, what) == (step, kind)}

    return [
        Observation(
            loss=result.loss,
            balance_loss=result.balance_loss,
            mtp_loss=result.mtp_loss or 0.0,
            further=result.further,
            norm=result.norm,
            rates=result.learning_rates | _rates_of_groups(result),
            gradients=seen(step, "gradient"),
            updates=seen(step, "update"),
        )
        for step, result in enumerate(results)
    ], batches


def _rates_of_groups(result: StepResult) -> dict[str, float]:
    return {
        f"{module}: {name}": group.learning_rate
        for module, groups in result.groups.items()
        for name, group in groups.items()
        if name != OTHERS
    }


def _gather(pieces: Pieces, groups: Groups) -> dict[tuple[int, str, str], torch.Tensor]:
    """Whole tensors on the first rank from every rank's blocks; NaN where no rank has an element or replicas differ.

    A rank's values travel in one array of float64, which holds any dtype's exactly: pickling thousands of tensors takes
    longer than training them.
    """
    assert groups.control is not None, "only active ranks run a case"
    blocks = [(key, block, tensor.dtype, tensor.shape) for key, (block, tensor) in pieces.items()]
    values = [tensor.reshape(-1).double() for _block, tensor in pieces.values()]
    flat = torch.cat(values) if values else torch.empty(0)
    gathered = groups.control.gather((blocks, flat.numpy()))
    whole: dict[tuple[int, str, str], torch.Tensor] = {}
    for theirs, array in gathered or []:
        rest = torch.from_numpy(array)
        for key, block, dtype, shape in theirs:
            part, rest = rest[: shape.numel()], rest[shape.numel() :]
            target = whole.setdefault(key, torch.full(block.global_shape, math.nan, dtype=dtype))
            _put(target[block.global_slices], part.to(dtype).view(shape)[block.local_slices])
    return whole


def _put(target: torch.Tensor, value: torch.Tensor) -> None:
    """Write a block; where a replica wrote before, both must agree to rounding."""
    tolerance = 1e-12 if value.dtype == torch.float64 else 1e-5
    written = ~target.isnan()
    if written.any() and (target - value)[written].abs().max() > tolerance * value.abs().max():
        target.fill_(math.nan)
    else:
        target.copy_(value)


def _compare(config: Config, ours: list[Observation], seen: Seen) -> CaseResult:
    name = config.training.precision.compute
    differences = [
        difference
        for step, (observation, reference) in enumerate(zip(ours, seen.steps, strict=True))
        for difference in compare_step(step, observation, reference)
        # Adam divides by what may be rounding noise: in float32 gradients are compared, but not updates.
        if name == "float64" or difference.kind != "update"
    ]
    tolerance = TOLERANCES[name]
    first = first_wrong(differences, tolerance)
    return CaseResult(worst_of_kinds(differences), tolerance, ours[-1].loss, first, seen.margin)


def _refer(config: Config, corpus: Corpus, batches: list[list[Document]], device: torch.device) -> Seen:
    reference = Reference(config, corpus.sources, device, dtype_of(config.training.precision.compute))
    steps = tuple(reference.step(documents) for documents in batches)
    return Seen(steps, reference.margin)
