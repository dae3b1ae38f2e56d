"""Bytes of a stage on one of its ranks: what each part stores, gathers, keeps for backward and needs while it runs."""

from dataclasses import dataclass, replace
from math import ceil, prod

from counterpoint.plan.batch import BatchPlan, Share
from counterpoint.plan.graph import Node
from counterpoint.plan.kept import ATTENTION, Cut, Kept
from counterpoint.plan.layout import Layout
from counterpoint.plan.part_facts import EXPERTS, PartFacts
from counterpoint.plan.plan import Plan

BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}
"""Of an element, by the name of its dtype."""

UNIT_ELEMENTS = 2**26
"""Fewest parameters of a group of layers that FSDP gathers together where parameters stay gathered."""

TINY_PART = 64
"""A part that has this many times fewer parameters than the layers before it joins their group."""

SCORES_AT_ONCE = 2**28
"""Scores of words that the loss computes at once."""

MOST_RANKS_OF_ALL_ROWS = 2
"""Highest ep with which every row goes to all ranks if these have as many, so that nobody waits for sizes and buffers
are the largest."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Of a module's microbatch the rows that enter and leave its most loaded lane, and those with a label, if it reads
    documents; `all_out` leave all lanes. `is_even` says that it reads documents, as many rows of them in all lanes."""

    enter: int
    leave: int
    all_out: int
    labelled: int
    is_even: bool = False


NO_ROWS = Rows(0, 0, 0, 0)


def lane_rows(plan: Plan, batch: BatchPlan) -> dict[str, tuple[Rows, ...]]:
    """The rows of each module by its own microbatches."""
    return {
        module: tuple(
            Rows(
                max((share.rows_in for share in lanes), default=0),
                max((share.rows_out for share in lanes), default=0),
                sum(share.rows_out for share in lanes),
                max((_labelled(batch, share) for share in lanes), default=0) if module == plan.sink else 0,
                module == plan.sink and batch.has_even_lanes(microbatch),
            )
            for microbatch, lanes in enumerate(batch.shares[module])
        )
        for module in plan.layouts
    }


def _labelled(batch: BatchPlan, share: Share) -> int:
    return sum(batch.documents[span.document].loss_tokens for span in share.spans)


@dataclass(frozen=True, slots=True)
class Stored:
    """Elements of one part on a rank: `dense` and `routed` ones after tp and the expert view, `shard` after FSDP, of
    which `trained` are updated; `whole` are experts that the rank alone has and that FSDP leaves alone."""

    dense: int
    routed: int
    shard: int
    whole: int
    trained: float

    @property
    def gathered(self) -> int:
        """Elements that FSDP gathers."""
        return self.dense + self.routed - self.whole

    @property
    def elements(self) -> int:
        """All that layers multiply with."""
        return self.dense + self.routed


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of one part for one microbatch.

    `kept` wait from forward to the end of its backward, on the device; `full` are what the part keeps while it runs:
    more than `kept` if it is recomputed or offloaded. `deferred` wait from a split backward for its weight gradients.
    `forward` and `backward` are what it needs beside that while it runs.
    """

    kept: int
    full: int
    deferred: int
    forward: int
    backward: int


@dataclass(frozen=True, slots=True)
class NodeSizes:
    """A stage on a rank: its parts in order, the runs of parts (first, stop) that FSDP gathers together, and the
    moments that the optimizer keeps of a trained parameter of each part."""

    parts: tuple[Stored, ...]
    units: tuple[tuple[int, int], ...]
    moments: tuple[float, ...]


def node_sizes(plan: Plan, node: Node) -> NodeSizes:
    """The sizes of a stage, equal on all of its ranks up to padding."""
    layout, facts = plan.layouts[node.module], plan.facts[node.module]
    start, stop = plan.splits[node.module][node.stage]
    parts = [_stored(plan, node.module, number) for number in range(start, stop)]
    if facts.reads_words_last and layout.pp > 1 and node.stage == layout.stages - 1:
        # The copy of the embedding for a tied head, or for further tokens.
        own, copied = parts[-1], _stored(plan, node.module, 0)
        parts[-1] = Stored(
            own.dense + copied.dense, own.routed, own.shard + copied.shard, own.whole, own.trained + copied.trained
        )
    updates = plan.updates.get(node.module, ())
    moments = tuple(update.moments for update in updates[start:stop]) or (2.0,) * len(parts)
    names = [part.name for part in facts.parts[start:stop]]
    return NodeSizes(tuple(parts), _units(names, parts, 0 if layout.reshard else UNIT_ELEMENTS), moments)


def _stored(plan: Plan, module: str, number: int) -> Stored:
    layout, part = plan.layouts[module], plan.facts[module].parts[number]
    pieces, shards = plan.pieces.get(module, {}), layout.dp_shard * layout.cp
    is_whole = layout.edp == 1 and not layout.reshard
    dense = routed = shard = whole = 0
    for name, shape in part.tensors:
        if EXPERTS in f".{name}":
            local = ceil(prod(shape) / layout.expert_size)
            routed, shard = routed + local, shard + ceil(local / layout.edp)
            whole += local if is_whole else 0
        else:
            cut = pieces.get(f"{part.name}.{name}", layout.tp)
            first, rest = ceil(shape[0] / cut), prod(shape[1:])
            dense, shard = dense + first * rest, shard + ceil(first / shards) * rest
    trained = plan.trained[module][number].elements / max(part.parameters, 1) if module in plan.trained else 1.0
    return Stored(dense, routed, shard, whole, trained)


def _units(names: list[str], parts: list[Stored], least: int) -> tuple[tuple[int, int], ...]:
    """The runs of parts that are gathered together; with `least` 0 each by itself (see parallelize/fsdp.py)."""
    units: list[tuple[int, int]] = []
    filled, has_layers = 0, False
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        is_layer, size = name.startswith("layers."), part.elements
        if least and has_layers and ((is_layer and filled < least) or size * TINY_PART <= filled):
            units[-1] = (units[-1][0], number + 1)
            filled += size
        else:
            units.append((number, number + 1))
            filled, has_layers = size, is_layer
    return tuple(units)


def held(plan: Plan, node: Node, rows: Rows) -> tuple[Held, ...]:
    """Bytes of each part of a stage for a microbatch with these rows: forward and backward ask for the same."""
    known = plan.remembered.setdefault("held", {})
    assert isinstance(known, dict), "nothing else has this name"
    if (node, rows) not in known:
        kinds = part_kinds(plan, node.module)[slice(*plan.splits[node.module][node.stage])]
        of_kind = {kind: held_part(plan, node.module, kind, rows) for kind in dict.fromkeys(kinds)}
        known[node, rows] = tuple(of_kind[kind] for kind in kinds)
    found: tuple[Held, ...] = known[node, rows]
    return found


def part_kinds(plan: Plan, module: str) -> tuple[int, ...]:
    """For each part of a module the place of the first one that holds the same for the same rows."""
    known = plan.remembered.setdefault("part kinds", {})
    assert isinstance(known, dict), "nothing else has this name"
    if module not in known:
        firsts: dict[object, int] = {}
        trained = plan.trained.get(module)
        known[module] = tuple(
            # The table of words is the only part that is told by its name.
            firsts.setdefault(
                (replace(part, name=part.name * (part.name == "embed")), trained and trained[number].is_trained), number
            )
            for number, part in enumerate(plan.facts[module].parts)
        )
    found: tuple[int, ...] = known[module]
    return found


def held_part(plan: Plan, module: str, number: int, rows: Rows) -> Held:
    """Bytes of one part of a module."""
    layout, facts, computed = plan.layouts[module], plan.facts[module], BYTES[plan.dtype]
    part = facts.parts[number]
    # Where tp cuts rows, all are kept up to the head.
    entering = rows.labelled if part.labelled and (part.scores or layout.tp == 1) else rows.enter
    own = ceil(entering / layout.lane_size)
    factors = _factors(plan, layout, is_even=rows.is_even)

    def count(tensors: tuple[Kept, ...]) -> int:
        return ceil(sum(one.elements * one.bytes_each(computed) * factors[one.cut] for one in tensors) * own)

    trains_weights = module not in plan.trained or plan.trained[module][number].is_trained
    every, kept = plan.kept_while_running(module, part.name), plan.kept(module, part.name)
    passing = 0
    if not trains_weights:
        # Nothing keeps what only products with frozen weights read, but the largest of it is there for a moment.
        passing = max((count((one,)) for one in every if _is_passing(one)), default=0)
        every, kept = (tuple(one for one in some if not _is_passing(one)) for some in (every, kept))
    read = count(tuple(one for one in every if one.is_read)) if trains_weights else 0
    stream = ceil(own * facts.hidden * computed * factors["rows"])
    products, all_products = _product_bytes(part, own, computed)
    matrix = ceil(part.kept_matrix / layout.tp) * max(computed, BYTES["float32"])
    # Forward ends with what a part adds to its rows, and their sum. The gradient of that is one of a product's outputs.
    forward, backward = 2 * stream + passing, max(2 * stream, products) + count(part.working)
    if part.scores:
        forward, backward = _of_scores(plan, part, ceil(part.scores / layout.tp), ceil(entering / layout.cp), matrix)
    is_away = plan.is_offloaded(module, part.name)
    return Held(
        kept=0 if is_away else count(kept) + matrix,
        full=count(every) + matrix,
        # The gradient of a table of words comes from the rows that were looked up, that of the loss is there already.
        deferred=matrix if part.scores else read + (stream if part.name == "embed" else all_products) * trains_weights,
        forward=forward,
        backward=backward,
    )


def _is_passing(one: Kept) -> bool:
    """Whether only the gradient of a weight needs it."""
    return one.is_read and one.of != ATTENTION


def _factors(plan: Plan, layout: Layout, *, is_even: bool) -> dict[Cut, float]:
    """By how much tensors of each cut are larger than a rank's equal share of a lane's rows."""
    rows = 1 if layout.sequence_parallel else layout.tp
    # Where a GPU does not wait for sizes, buffers of experts have room for every choice of all rows that could come.
    is_padded = is_even and plan.path != "plain" and layout.ep <= MOST_RANKS_OF_ALL_ROWS
    padded = layout.ep if is_padded else 1
    return {
        "columns": 1, "rows": rows, "gathered": layout.tp, "choices": layout.etp * padded, "inner": padded,
    }  # fmt: skip


def _product_bytes(part: PartFacts, own: int, computed: int) -> tuple[int, int]:
    """Bytes of the outputs of the products of one sublayer, or of their gradients, without routed experts, and of all.

    Sublayers of a part run one after the other, and the one with the widest products needs most.
    """
    widths: dict[str, int] = {}
    for name, shape in part.tensors:
        if len(shape) == 2 and name.endswith("weight"):
            sublayer = name.split(".")[0]
            widths[sublayer] = widths.get(sublayer, 0) + shape[0]
    if part.name == "embed" or part.scores:
        return 0, 0
    each = ceil(own / part.rows_per_output) * computed
    return each * max(widths.values(), default=0), each * sum(widths.values())


def _of_scores(plan: Plan, part: PartFacts, words: int, rows: int, matrix: int) -> tuple[int, int]:
    """What the loss needs beside what it keeps: scores of some rows and their gradients, with wide values between them
    unless they are compiled; in backward both gradients once more, scaled."""
    computed = BYTES[plan.dtype]
    wide = max(computed, BYTES["float32"])
    at_once = min(rows, max(1, SCORES_AT_ONCE // max(1, words))) * words
    each = 2 * computed if plan.path == "compiled" else computed + 3 * wide
    of_rows = ceil(sum(one.elements for one in part.kept.plain) * rows * computed)
    return at_once * each, matrix + matrix * computed // wide + of_rows
