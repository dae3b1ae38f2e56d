"""What a part of a model does on one rank: its products, cores, traffic, exchanges and kernels, from its facts alone.

A rank computes `rows / cp` rows of its lane for a share of the columns: products are cut over tp, cores over tp and cp,
experts over ep and etp. Nothing here knows a kind of model or of hardware.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, final

from counterpoint.plan.activations import KEEPS_ALL, ActivationPolicy
from counterpoint.plan.cost import Load
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.part_facts import EXPERTS
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import is_last_product, products_of
from counterpoint.plan.work import PartWork

FLOPS_PER_PAIR = 4
"""Forward FLOPs of a query-key pair for each column of all heads."""

NARROW = 16
"""A weight with at most so many columns on one side, such as the filter of a convolution, is read along with the rows
and makes no matrix product."""

ExchangeKind = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all"]


@final
@dataclass(frozen=True, slots=True)
class Product:
    """`groups` products (rows / groups, inner) x (inner, columns); `share` of it is computed."""

    rows: int
    inner: int
    columns: int
    groups: int = 1
    share: float = 1.0


@final
@dataclass(frozen=True, slots=True)
class Core:
    """Attention over `pairs` of query and key, or with a `state` a scan, of `rows` rows; `backward` alone or forward.

    Documents that are `even` have one length and fill the rows.
    """

    rows: int
    pairs: int
    heads: int
    width: int
    state: int
    backward: bool
    even: bool = False


@final
@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that element-wise work reads and writes, in `kernels` kernels.

    Those that are `plain` are launched one by one, outside of compiled regions.
    """

    size_bytes: int
    kernels: int
    plain: bool = False


@final
@dataclass(frozen=True, slots=True)
class Exchange:
    """A collective over an axis of the layout; `size_bytes` is the whole tensor, of an all-to-all what a rank sends.

    If the hardware can do both, the products `beside` run meanwhile. With `by_parts` the rows travel in as many parts
    as there are ranks, and those products are computed part by part, one of which needs no other rank's rows.
    """

    kind: ExchangeKind
    axis: str
    size_bytes: int
    beside: tuple[Product, ...] = ()
    by_parts: tuple[Product, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class HostCopy:
    """Bytes that go to the host's memory, or come back, while other work runs."""

    size_bytes: int


Operation = Product | Core | Traffic | Exchange | HostCopy
Operations = tuple[Operation, ...]


@final
@dataclass(frozen=True, slots=True)
class PartOperations:
    """What a part does in forward, for the gradients of its inputs, and for those of its weights; `again` is what of
    forward runs again for the gradients of inputs, and is part of these."""

    forward: Operations
    inputs: Operations
    weights: Operations
    again: Operations = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a part runs on a rank: its module's layout, the bytes of a value, and those that are kept of a row.

    `is_recomputed` parts run again in backward. `is_whole` says that each context-parallel rank holds whole documents,
    whose rows need not be traded, `is_even` that all of a lane's documents have one length and fill its rows. With
    `overlaps_products` rows travel over tp while products run.
    """

    layout: Layout
    value_bytes: int
    is_compiled: bool
    is_recomputed: bool = False
    is_offloaded: bool = False
    is_whole: bool = False
    is_even: bool = False
    trains: bool = True
    policy: ActivationPolicy = KEEPS_ALL
    kept_bytes: int = 0
    overlaps_products: bool = False


def setting_of(
    plan: Plan, node: Node, part: str, layout: Layout, value_bytes: int, *, overlaps_products: bool
) -> Setting:
    """How a part of a stage runs by the plan's policies, on a rank of a `layout` that need not be the plan's."""
    module = node.module
    return Setting(
        layout=layout,
        value_bytes=value_bytes,
        is_compiled=plan.path == "compiled",
        is_recomputed=plan.is_recomputed(module, part),
        is_offloaded=plan.is_offloaded(module, part),
        trains=plan.stages.has_backward(node),
        policy=plan.activations.get(module, KEEPS_ALL),
        kept_bytes=ceil(kept_bytes(plan, module, part, value_bytes)),
        overlaps_products=overlaps_products,
    )


def kept_bytes(plan: Plan, module: str, part: str, value_bytes: int) -> float:
    """Bytes per row that a part keeps for backward."""
    return sum(one.elements * one.bytes_each(value_bytes) for one in plan.kept(module, part))


def part_operations(work: PartWork, load: Load, rows: int, setting: Setting) -> PartOperations:
    """The operations of a part on one of the ranks that share the `rows` rows (padding included) of a lane's load."""
    part = _Part(work, load, rows, setting)
    forward, backward = part.forward(), part.input_gradients()
    weights = part.weight_gradients()
    if work.facts.scores and setting.trains:
        # Its gradients are made with its scores, so that no score is computed twice.
        return PartOperations((*forward, *backward, *weights), (), ())
    again: Operations = ()
    if setting.is_recomputed and backward:
        keeps = "attention" in setting.policy.keeps
        again = tuple(one for one in forward if not (keeps and isinstance(one, Core) and not one.state))
        backward = (*again, *backward)
    if setting.is_offloaded:
        away = HostCopy(part.local(setting.kept_bytes))
        forward, backward = (*forward, away), (*backward, away)
    return PartOperations(forward, backward, weights, again)


class _Part:
    def __init__(self, work: PartWork, load: Load, rows: int, setting: Setting) -> None:
        self._work, self._facts, self._load, self._setting = work, work.facts, load, setting
        layout = setting.layout
        self._tp, self._cp, self._layout = layout.tp, layout.cp, layout
        self._rows = rows
        self._sublayers: list[tuple[tuple[Product, ...], Product]] = []
        self._products = tuple(self._listed())
        self._core_flops = work.facts.flops_of_pairs(load)

    def forward(self) -> Operations:
        products = tuple(self._products)
        return (
            *self._exchanges(_same, backward=False),
            *self._dispatch(products),
            *products,
            *self._cores(backward=False),
            *self._dispatch(products),
            *self._traffic(_FORWARD_PASSES, _FORWARD_KERNELS),
        )

    def input_gradients(self) -> Operations:
        """Gradients go back through the exchanges in the opposite direction."""
        found: list[Operation] = []
        if self._work.inputs or self._work.has_pairs_back:
            turned = tuple(map(self._turned, self._products))
            found += [*self._exchanges(self._turned, backward=True), *self._dispatch(turned), *turned]
            found += self._dispatch(turned)
        if self._work.has_pairs_back:
            found += self._cores(backward=True)
        return (*found, *self._traffic(_BACKWARD_PASSES, _BACKWARD_KERNELS)) if found else ()

    def _turned(self, product: Product) -> Product:
        """The product that gives the gradient of a product's input."""
        share = product.share * self._work.inputs
        return replace(product, inner=product.columns, columns=product.inner, share=share)

    def weight_gradients(self) -> Operations:
        if not self._work.weights:
            return ()
        return tuple(_of_weight(one, self._work.weights) for one in self._products)

    def local(self, per_row: int) -> int:
        """This rank's share of so many values, or bytes, for each row of the lane."""
        return -(-per_row * self._rows // (self._tp * self._cp))

    def _listed(self) -> Iterator[Product]:
        """The products with the part's weights, and one more that stands for what its FLOPs count beyond them."""
        rows, facts = self._rows, self._facts
        counted = facts.flops_per_row * rows + facts.flops_per_item * self._load.count
        if not counted:
            return
        shapes = dict(facts.tensors)
        listed = [(name, shapes[name]) for name, _count, _place in products_of(facts) if EXPERTS not in name]
        listed = [(name, shape) for name, shape in listed if len(shape) == 2 and min(shape) > NARROW]
        experts = tuple(self._expert_products(shapes))
        of_rows = sum(2 * rows * out * inner for _name, (out, inner) in listed)
        of_experts = 2 * rows * facts.active_expert_parameters
        # Where rows are merged, or learned rows stand for them, products have fewer rows than the lane.
        fewer = min(1.0, (counted - of_experts) / of_rows) if of_rows else 1.0
        of_rank = max(1, round(rows * fewer / self._cp))
        firsts: list[Product] = []
        for name, (out, inner) in listed:
            is_last = is_last_product(name)
            cut = (_cut(inner, self._tp), out) if is_last else (inner, _cut(out, self._tp))
            product = Product(of_rank, *cut)
            yield product
            if is_last:
                self._sublayers.append((tuple(firsts), product))
                firsts = []
            else:
                firsts.append(product)
        yield from experts
        beyond = counted - of_rows * fewer - of_experts
        if beyond > counted * _NEGLIGIBLE and not any(mixer.state for mixer in facts.mixers):
            # Beside a scan's own FLOPs, which are priced as such, these are of tied weights and of convolutions.
            width = max(1, facts.hidden_out)
            columns = max(1, round(beyond / (2 * rows * width) / self._tp))
            yield Product(max(1, rows // self._cp), width, columns)

    def _expert_products(self, shapes: dict[str, tuple[int, ...]]) -> Iterator[Product]:
        """Products of the experts that a rank holds, with the rows that reach it from the ranks it trades with."""
        layout, facts = self._layout, self._facts
        if not facts.expert_parameters:
            return
        choices = self._choices()
        for name, (experts, out, inner) in ((n, s) for n, s in shapes.items() if EXPERTS in n and len(s) == 3):
            held = -(-experts // layout.ep)
            if is_last_product(name):
                yield Product(choices, _cut(inner, layout.etp), out, groups=held)
            else:
                yield Product(choices, inner, _cut(out, layout.etp), groups=held)

    def _own_rows(self) -> int:
        return max(1, self._rows // (self._tp * self._cp))

    def _choices(self) -> int:
        """Choices of experts that reach a rank if rows spread evenly: each of a row's for each rank that shares it."""
        facts = self._facts
        number = sum(experts for _name, experts in facts.mixtures)
        top = facts.active_expert_parameters * number / facts.expert_parameters
        return max(1, round(self._own_rows() * self._layout.etp * top / max(1, len(facts.mixtures))))

    def _cores(self, *, backward: bool) -> Operations:
        """What mixes rows, and over cp the exchanges around it."""
        found: list[Operation] = []
        attending = [mixer for mixer in self._facts.mixers if not mixer.state]
        columns = FLOPS_PER_PAIR * sum(mixer.columns for mixer in attending)
        for mixer in self._facts.mixers:
            heads = max(1, mixer.heads // (self._tp * (1 if self._setting.is_whole else self._cp)))
            lane_rows = self._rows // self._cp if self._setting.is_whole else self._rows
            pairs = 0 if mixer.state else round(self._core_flops / columns)
            pairs = pairs // self._cp if self._setting.is_whole else pairs
            found += self._trades(mixer.columns, mixer.shared_columns)
            found.append(Core(lane_rows, pairs, heads, mixer.width, mixer.state, backward, self._setting.is_even))
        if self._core_flops and not attending:
            # A kernel of unknown heads is taken for one product of the same FLOPs.
            side = max(1, self._facts.hidden_out)
            flops = self._core_flops * (2 if backward else 1) // (self._tp * self._cp)
            found.append(Product(max(1, flops // (2 * side * side)), side, side))
        return tuple(found)

    def _trades(self, columns: int, shared: int) -> Iterator[Exchange]:
        """Rows for heads before a core, heads for rows after it; backward does the same the other way round."""
        if self._cp == 1 or self._setting.is_whole:
            return
        each = self._rows // self._cp * self._setting.value_bytes
        for width in (columns, shared // 2, shared - shared // 2, columns):
            yield Exchange("all_to_all", "cp", each * -(-width // self._tp))

    def _exchanges(self, product_of: Callable[[Product], Product], *, backward: bool) -> Iterator[Operation]:
        """What tensor parallelism exchanges: rows are gathered for the first products of each sublayer and summed after
        its last one; backward sums and gathers their gradients, the sums while gradients of weights are computed."""
        if self._tp == 1:
            return
        for firsts, last in self._sublayers:
            before, after = tuple(map(product_of, firsts)), tuple(map(product_of, (last,)))
            weights = tuple(_of_weight(one, self._work.weights) for one in firsts) if backward else ()
            yield from self._exchange("reduce_scatter" if backward else "all_gather", before, weights)
            yield from self._exchange("all_gather" if backward else "reduce_scatter", after, ())
        if self._facts.scores:
            yield from self._exchange("reduce_scatter" if backward else "all_gather", (), ())

    def _exchange(
        self, kind: ExchangeKind, by_parts: tuple[Product, ...], beside: tuple[Product, ...]
    ) -> Iterator[Operation]:
        """One exchange of a lane's rows, with the copies and sums around it."""
        size = self._rows // self._cp * self._facts.hidden_out * self._setting.value_bytes
        if not self._layout.sequence_parallel:
            # All ranks hold all rows, so nothing is gathered.
            if kind == "reduce_scatter":
                yield Exchange("all_reduce", "tp", size)
            return
        overlaps = self._setting.overlaps_products and size >= _LEAST_OVERLAPPED * self._tp
        yield Exchange(kind, "tp", size, beside, by_parts) if overlaps else Exchange(kind, "tp", size)
        yield Traffic(size, 2)

    def _dispatch(self, products: Sequence[Product]) -> Iterator[Exchange]:
        """Rows to the ranks of their experts, each once; half of what all rows pass runs meanwhile."""
        layout, facts = self._layout, self._facts
        if not facts.expert_parameters or layout.expert_size == 1:
            return
        reached = self._ranks_reached() * layout.etp
        size = round(self._own_rows() * reached * facts.hidden_out * self._setting.value_bytes)
        dense = tuple(replace(one, share=one.share / 2) for one in products if one.groups == 1)
        yield Exchange("all_to_all", "ep", size, dense)

    def _ranks_reached(self) -> float:
        """Ranks along ep that hold at least one of a row's experts, if rows choose evenly; all of two."""
        ep, facts = self._layout.ep, self._facts
        if ep <= 2:
            return float(ep)
        number = sum(experts for _name, experts in facts.mixtures)
        top = facts.active_expert_parameters * number / facts.expert_parameters / max(1, len(facts.mixtures))
        share_without: float = (1.0 - 1.0 / ep) ** top
        return ep * (1.0 - share_without)

    def _traffic(self, passes: "_Passes", kernels: "_Passes") -> Iterator[Traffic]:
        """Element-wise work: what is kept for backward is written and read; uncompiled, each function does so."""
        compiled = self._setting.is_compiled
        size = self.local(self._facts.activation_elements) * self._setting.value_bytes
        normed = len(self._sublayers) * self._own_rows() * self._facts.hidden_out * self._setting.value_bytes
        total = size * passes.of(compiled) + normed * _NORM_PASSES.of(compiled)
        number = len(self._products) + len(self._facts.mixers)
        yield Traffic(round(total), max(1, round(number * kernels.of(compiled))))
        forward = passes is _FORWARD_PASSES
        if forward and self._facts.scores:
            scored = self._rows // self._cp * _cut(self._facts.scores, self._tp) * self._setting.value_bytes
            yield Traffic(round(scored * _SCORE_PASSES.of(compiled)), 8)
        if self._facts.expert_parameters:
            moved = self._choices() * self._facts.hidden_out * self._setting.value_bytes
            times = _FORWARD_ROUTING if forward else _BACKWARD_ROUTING
            short = _FORWARD_ROUTING_KERNELS if forward else _BACKWARD_ROUTING_KERNELS
            yield Traffic(moved * times, short, plain=True)


@final
@dataclass(frozen=True, slots=True)
class _Passes:
    """A number for compiled layers and one for others."""

    compiled: float
    eager: float

    def of(self, is_compiled: bool) -> float:
        return self.compiled if is_compiled else self.eager


_FORWARD_PASSES, _BACKWARD_PASSES = _Passes(1.0, 2.0), _Passes(1.8, 3.5)
"""How often element-wise work reads or writes what a part keeps for backward. Of a compiled gated MLP, forward reads
two of four tensors of its inner width and writes a third; backward reads three and writes two."""

_NORM_PASSES = _Passes(5.0, 0.0)
"""Further times that a norm reads or writes its rows, in forward or backward. Compiled, the four times that it does so
take as long as 12 in rows of 1,280, which reach 1.1 to 1.4 of an H200's 4.2 TB/s
(`hybrid_vlm_disjoint8_first_profiled_2xh200.json` in benchmarks/results), and as 9 in wider ones, read off decoders'
steps."""

_SCORE_PASSES = _Passes(9.0, 25.0)
"""How often scores of words are read or written for the loss and its gradient, in forward."""

_FORWARD_ROUTING, _BACKWARD_ROUTING = 6, 10
"""How often rows are read or written, one for each choice of an expert, to be sorted, sent, and summed."""

_FORWARD_ROUTING_KERNELS, _BACKWARD_ROUTING_KERNELS = 50, 80
"""Kernels that choose, count, sort and weigh: none of them is long."""

_FORWARD_KERNELS, _BACKWARD_KERNELS = _Passes(1.0, 8.0), _Passes(1.5, 11.0)
"""Element-wise kernels for each product and each core of a part, copies included."""

_LEAST_OVERLAPPED = 2**24
"""Bytes of a rank's shard from which rows travel while products run (`parallelize/products.py`)."""

_NEGLIGIBLE = 0.001


def _of_weight(product: Product, share: float) -> Product:
    """The product that gives the gradient of a weight; of stacked weights one of the same size stands for it."""
    if product.groups > 1:
        return replace(product, share=product.share * share)
    rows, inner, columns = product.columns, product.rows, product.inner
    return Product(rows, inner, columns, share=product.share * share)


def _cut(width: int, ranks: int) -> int:
    return max(1, -(-width // ranks))


def _same(product: Product) -> Product:
    return product
