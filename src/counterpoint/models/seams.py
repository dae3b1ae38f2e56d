"""The seams of models: submodules that `parallelize/` replaces, and base classes that say how it may treat a module.

A model knows no ranks. Its seams do nothing, or compute locally, until `parallelize/` replaces them. So `parallelize/`
never asks for the kind of a layer, and the layers of a plug-in get every kind of parallelism.

seam                                    position or meaning                 replacement

Enter, Leave                            rows into and out of a sublayer     tp: gather, reduce-scatter, or all-reduce
StageEnter, StageLeave                  rows into and out of a stage        tp: gather, own share
RowsEnter, RowsLeave, OwnRows           rows of what works row by row       tp: each rank's own share
OwnChannels                             constants of all channels           tp: those of a rank's share
ChannelSum                              sums over channels                  tp: a sum over all ranks' channels
WholeLane, OwnShare                     rows of what sees whole items       tp: gather, own share
Lookup, LookupLeave, LinearLoss         the vocabulary                      tp: vocabulary shards
ScoredRows                              rows with a label                   tp: all rows, so that shares stay equal
Product                                 a linear layer                      tp: overlap with communication
Foreign                                 a module without seams              tp: its linear layers are cut in pairs
Mix                                     mixes the rows of a document        tp: a share of the heads
                                                                            cp: all-to-all from rows to heads
Dispatch                                rows to their experts and back      ep x etp: an all-to-all each way
StackedExperts                          weights of experts                  ep x etp: a share of them
OwnDocuments, LaneSum                   documents of rows; their counts     tp x cp: the rank's own; a sum
LaneTotal                               sums of items' rows                 tp x cp: a sum over the lane
Reporting                               results beside rows                 ports of a stage
Counted                                 choices that a step counts          a sum over all ranks
Multiply, GroupedMultiply,              products with weights               deferred weight gradients
AddBias, ReadTable, OffersWeight
ReadsStored                             weights of what a rank holds whole  copies in the computing dtype
Wide                                    computes in the stored dtype        FSDP2: a group without casts
Layer                                   a residual layer                    activation recomputation
Costly                                  a function that is dear to compute  recomputation keeps its output
Cheap                                   a module that is cheap to compute   its output is not kept for backward
Fusible                                 functions of rows alone             compiled functions

Seams that compute something have files of their own: `dispatch.py`, `embedding.py`, `linear_loss.py`, `scored.py` and
`multiply.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn

from counterpoint.models.permute import Order
from counterpoint.models.segments import Sampled, Segments, Windows


class Product(nn.Module, ABC):
    """A linear layer: `multiply` computes the product of rows with `weight`; subclasses add a bias."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    multiply: nn.Module


class Enter(nn.Module):
    """Before the first linears of a sublayer: maps rows (rows, hidden) to their input."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def products(self, rows: Tensor, *linears: Product) -> tuple[Tensor, ...]:
        """The outputs of the linears, which share one input."""
        entered = self(rows)
        return tuple(linear(entered) for linear in linears)


class Leave(nn.Module):
    """After the last linear of a sublayer and before its bias: sums the partial products of ranks."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def product(self, rows: Tensor, weight: Tensor, multiply: nn.Module) -> Tensor:
        """The product of rows with a weight, after `forward`."""
        left: Tensor = self(multiply(rows, weight, None))
        return left


@final
class LookupLeave(nn.Identity):
    """After the lookup of words: sums over the shards of the vocabulary."""


@final
class StageEnter(nn.Identity):
    """Before the parts of a stage: the input rows."""


@final
class StageLeave(nn.Identity):
    """After the parts of a stage: the output rows."""


@final
class RowsEnter(nn.Identity):
    """Before a row-wise sublayer: the rows that this process computes."""


@final
class RowsLeave(nn.Identity):
    """After a row-wise sublayer: the rows of the residual stream."""


@final
class OwnChannels(nn.Identity):
    """Selects this process's channels from constants (channels, ...) of all channels."""


@final
class ChannelSum(nn.Identity):
    """After a sum over this process's channels: sums over all channels."""


@final
class OwnDocuments(nn.Module):
    """Selects from `document` int64, of all rows of a lane, the entries of this process's `rows` rows."""

    def forward(self, document: Tensor, _rows: int) -> Tensor:
        return document


@final
class OwnRows(nn.Module):
    """Number of the `rows` local rows that this process owns; features of other modules are added to these only."""

    def forward(self, rows: int) -> int:
        return rows


@final
class LaneSum(nn.Identity):
    """Sums counts of a process's rows over the ranks that share its documents; without autograd."""


@final
class LaneTotal(nn.Identity):
    """Sums over a process's rows are summed over the lane.

    All processes of the lane compute the same from the result, so each already has the whole gradient.
    """


@final
class WholeLane(nn.Identity):
    """Before a module that needs whole images: gathers all patches of the lane, which need no gradient."""


@final
class OwnShare(nn.Identity):
    """After a module that all processes of a lane compute redundantly: selects the rows of this process."""


class Trade(Enum):
    """How context parallelism turns an input of a mix, sharded by rows, into all rows of a lane for a share of the
    heads."""

    HEADS = auto()
    """Rows (rows, heads, ...): an all-to-all from rows to heads, one for all inputs of the same shape."""
    GROUPS = auto()
    """Rows (rows, groups, ...) that heads of a group share: an all-to-all if cp divides the groups, else a gather."""
    WEIGHTS = auto()
    """Weights (heads, ...) or (groups, ...), which every rank holds whole: the rank selects those of its heads."""


Seen = TypeVar("Seen", bound=Segments | Windows | Sampled, contravariant=True)


class Mix(nn.Module, ABC, Generic[Seen]):
    """The core of a layer: it mixes the rows of a document, head by head, and has no parameter.

    `trades` is one entry per input; the first input is per head. `counts` are the numbers of heads (its key is
    `traded`) and groups in this process; tensor parallelism divides all of them, context parallelism only the heads.
    Of the groups at the key `copied` several tensor-parallel ranks may hold the same.
    """

    trades: ClassVar[tuple[Trade, ...]]
    traded: ClassVar[str] = "heads"
    copied: ClassVar[str | None] = None

    def __init__(self, **counts: int) -> None:
        super().__init__()
        self.counts: Mapping[str, int] = counts

    @abstractmethod
    def forward(self, inputs: tuple[Tensor, ...], segments: Seen) -> Tensor:
        """Inputs with all rows of the documents, for any share of the heads -> (rows, heads, ...)."""


@dataclass(frozen=True, slots=True)
class DispatchState:
    """The state of one token dispatch: `counts` int64 (local experts,) are the rows that each local expert receives."""

    counts: Tensor


class Arrived(NamedTuple):
    """Rows (rows, hidden), among them all that chose experts of this process, and their routing weights (rows, top_k);
    the first entries of `order` are the choices of local experts, sorted by expert, and further ones count nowhere."""

    rows: Tensor
    weights: Tensor
    order: Order


class Dispatch(nn.Module, ABC):
    """Token dispatch: sends each row once to every process that holds experts of it, and sums the rows that return.

    `send` and `combine` begin an exchange; the functions that they return end it. What is computed in between overlaps
    with the exchange, and in backward its gradient with the exchange of gradients.
    """

    @abstractmethod
    def announce(self, experts: Tensor, counts: Tensor, rows: int, *, is_even: bool) -> DispatchState:
        """Prepare a dispatch of `rows` rows, of which the first have the choices `experts` int64 (routed, top_k), no
        expert twice, and further ones none; expert i is chosen counts[i] times, int64 (experts,). With `is_even` all
        processes that join have as many rows."""

    @abstractmethod
    def send(self, rows: Tensor, weights: Tensor, state: DispatchState) -> Callable[[], Arrived]:
        """Send rows (rows, hidden) and the weights (routed, top_k) of their choices to the experts."""

    @abstractmethod
    def combine(self, rows: Tensor, state: DispatchState) -> Callable[[], Tensor]:
        """Return a row (arrived, hidden) for each that arrived; ends with the sum of those returned for each row that
        was sent, (rows, hidden), zeros where none was."""


class StackedExperts(nn.Module, ABC):
    """Experts with stacked weights (experts, outputs, inputs).

    `width_dims` is the dim of the experts' width by parameter. Their number and width follow from the weights' shapes.
    """

    width_dims: ClassVar[Mapping[str, int]]


class ReadsStored(nn.Module, ABC):
    """A module that reads its own weights through `stored`, which maps a weight to what it multiplies with."""

    stored: Callable[[nn.Parameter], nn.Parameter]


def as_stored(weight: nn.Parameter) -> nn.Parameter:
    """The weight itself."""
    return weight


class WithResults(NamedTuple):
    """Output rows of a module, and results by name, which carry no gradient."""

    rows: Tensor
    results: Mapping[str, Tensor]


class Reporting(nn.Module, ABC):
    """A module whose forward returns `WithResults`; its names are a subset of `results`, prefixed by submodule."""

    results: tuple[str, ...]


def run(module: nn.Module, rows: Tensor | None, batch: object) -> WithResults:
    """Run a module on rows and a batch; results are empty unless it is `Reporting`."""
    made = module(rows, batch)
    return made if isinstance(module, Reporting) else WithResults(made, {})


def under(place: str, results: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Results of a submodule, with its name as a prefix."""
    return {f"{place}.{name}": result for name, result in results.items()}


COUNTS, BALANCE, FURTHER, TERMS = "counts", "balance", "further", "terms"
"""Results that a step sums: rows routed to each expert, int64 (experts,); the balance loss, a scalar; the losses
(depths,) of multi-token prediction; and further terms (terms,) of the loss of scores."""


class Counted(Reporting, ABC):
    """A layer that reports COUNTS and BALANCE of its routing, and may update itself from the counts of a step."""

    results = (COUNTS, BALANCE)

    @abstractmethod
    def settle(self, counts: Tensor, is_broken: Tensor) -> None:
        """Update from a step's counts over all ranks, int64 (experts,); does nothing if `is_broken`, bool ()."""


Offer = Callable[[Tensor, Callable[[], Tensor]], Tensor | None]
"""Computes the gradient of a weight and returns it, or defers the computation and returns None."""


class OffersWeight(nn.Module, ABC):
    """A module that computes the gradient of a weight itself, through `offer`."""

    offer: Offer


class Foreign(nn.Module, ABC):
    """Holds a module `tower` without seams, which all ranks of a lane compute redundantly.

    `tensor_rules` name the linear layers in it that tensor parallelism shards: patterns of their names, each with the
    role `outputs`, `inputs` or `whole`.
    """

    tower: nn.Module
    tensor_rules: tuple[tuple[str, str], ...]


class Wide(nn.Module, ABC):
    """A submodule that computes in the dtype of its stored parameters, independent of the compute dtype.

    Every forward of a layer runs each of those in it once: FSDP2 may gather those of many layers together.
    """


def widened(rows: Tensor) -> Tensor:
    """The rows in at least float32."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


class Fusible(nn.Module, ABC):
    """A module with `regions`: methods without collectives or custom kernels, which can be compiled."""

    regions: ClassVar[tuple[str, ...]] = ()


class Layer(Fusible, ABC):
    """A residual layer, the unit of activation recomputation; `kind` is its letter in plans."""

    kind: str = "L"


def call(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], *others: Any) -> Tensor:
    """`function(*tensors, *others)`."""
    return function(*tensors, *others)


class Costly(nn.Module):
    """Calls a function of tensors that is dear to compute, so that recomputed layers may keep its output.

    `what` is its name in configs. If the output is kept, `is_kept`, the call must not be part of a compiled region.
    """

    is_kept: ClassVar[bool] = False

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...], *others: Any) -> Tensor:
        """`function(*tensors, *others)`; nothing but `tensors` needs a gradient."""
        return call(function, tensors, *others)


class Cheap(nn.Module, ABC):
    """A module that is cheap to compute again, and whose output backward may compute again; `what` is its name in
    configs. It maps tensors to one tensor."""

    what: ClassVar[str]
