"""The seams of models: places where `parallelize/` puts something else, and what a module says of itself for that.

A model knows no rank. It holds small submodules that do nothing, or the local thing, and its classes say what may be
done with them. So nobody asks of which kind a layer is, and a layer from elsewhere gets every kind of parallelism.

seam                                    stands for                          what comes there

Enter, Leave                            rows into and out of a sublayer     tp: gather, reduce-scatter, or all-reduce
StageEnter, StageLeave                  rows into and out of a stage        tp: gather, own share
RowsEnter, RowsLeave, OwnRows           rows of what works row by row       tp: each rank's own share
OwnChannels                             constants of all channels           tp: those of a rank's share
ChannelSum                              sums over channels                  tp: a sum over all ranks' channels
WholeLane, OwnShare                     rows of what sees whole items       tp: gather, own share
Lookup, LookupLeave, LinearLoss         the vocabulary                      tp: words are cut
ScoredRows                              rows with a label                   tp: all rows, whose shares stay equal
Product                                 a linear layer                      tp: a product while its rows travel
Foreign                                 a module that knows no seams        tp: its linear layers are cut in pairs
Mix                                     what mixes rows of a document       tp: a share of the heads
                                                                            cp: rows are traded for heads
Dispatch                                rows to their experts and back      ep x etp: one all-to-all each way
StackedExperts                          weights of experts                  ep x etp: a share of them
OwnDocuments, LaneSum                   documents of rows; their counts     tp x cp: the rank's own; a sum
LaneTotal                               sums of items' rows                 tp x cp: a sum over the lane
Reporting                               results beside rows                 ports of a stage
Counted                                 choices that a step counts          a sum over all ranks
Multiply, GroupedMultiply,              what a weight does to rows          weight gradients that are left for later
AddBias, ReadTable, OffersWeight
Wide                                    what computes in wide numbers       FSDP2: a group that casts nothing
Layer                                   a residual layer                    recomputation in backward
Fusible                                 functions of rows alone             compiled ones

Those that compute something themselves stand in files of their own: `embedding.py`, `linear_loss.py`, `scored.py` and
`multiply.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn

from counterpoint.models.segments import Sampled, Segments, Windows


class Product(nn.Module, ABC):
    """A linear layer: `multiply` makes products of rows with `weight`, whatever is added to them."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    multiply: nn.Module


class Enter(nn.Module):
    """Before the first linears of a sublayer: their input, rows (rows, hidden)."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def products(self, rows: Tensor, *linears: Product) -> tuple[Tensor, ...]:
        """What each of the linears makes of the input."""
        entered = self(rows)
        return tuple(linear(entered) for linear in linears)


class Leave(nn.Module):
    """After the last linear of a sublayer and before its bias: a sum over the features that it consumed."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def product(self, rows: Tensor, weight: Tensor, multiply: nn.Module) -> Tensor:
        """What leaves of the rows' product with a weight."""
        left: Tensor = self(multiply(rows, weight, None))
        return left


@final
class LookupLeave(nn.Identity):
    """After the lookup of words: a sum over the pieces of the vocabulary."""


@final
class StageEnter(nn.Identity):
    """The rows that come into a run of parts."""


@final
class StageLeave(nn.Identity):
    """The rows that a run of parts hands on."""


@final
class RowsEnter(nn.Identity):
    """Before a sublayer that works row by row: the rows that this process is to work on."""


@final
class RowsLeave(nn.Identity):
    """After a sublayer that works row by row: the rows of the residual stream."""


@final
class OwnChannels(nn.Identity):
    """Constants (channels, ...) that every process holds for all channels: those of this process's channels."""


@final
class ChannelSum(nn.Identity):
    """After a sum over this process's channels: the sum over all channels."""


@final
class OwnDocuments(nn.Module):
    """Maps `document` int64 of all rows of a lane to that of the `rows` rows of this process."""

    def forward(self, document: Tensor, _rows: int) -> Tensor:
        return document


@final
class OwnRows(nn.Module):
    """Number of the `rows` local rows that this process owns; features of other modules are added to these only."""

    def forward(self, rows: int) -> int:
        return rows


@final
class LaneSum(nn.Identity):
    """Counts of a process's rows to counts of all rows of its documents; takes no part in autograd."""


@final
class LaneTotal(nn.Identity):
    """Sums of a process's rows to those of all rows of its lane; what becomes of them is computed alike by all of its
    processes, so each has the whole gradient."""


@final
class WholeLane(nn.Identity):
    """Before a module that sees whole images: the patches of all of its lane's, which need no gradient."""


@final
class OwnShare(nn.Identity):
    """After a module whose rows every process of a lane computes alike: those that this process hands on."""


class Trade(Enum):
    """What a rank needs of an input of a mix to compute all rows of a lane for its share of the heads, where every rank
    holds a share of the rows."""

    HEADS = auto()
    """Rows (rows, heads, ...): they are traded for heads. Inputs of one shape travel together."""
    GROUPS = auto()
    """Rows (rows, groups, ...) of what the heads of a group share: traded where groups divide, gathered where not."""
    WEIGHTS = auto()
    """Weights (heads, ...) or (groups, ...), which every rank holds whole: those of its heads."""


Seen = TypeVar("Seen", bound=Segments | Windows | Sampled, contravariant=True)


class Mix(nn.Module, ABC, Generic[Seen]):
    """The core of a layer: it mixes the rows of a document, head by head, and has no parameter.

    `trades` says of each input how it is cut, the first of them per head. `counts` are the heads in this process, under
    the key of `traded`, and the groups; tensor parallelism divides all of them, context parallelism those of `traded`.
    """

    trades: ClassVar[tuple[Trade, ...]]
    traded: ClassVar[str] = "heads"

    def __init__(self, **counts: int) -> None:
        super().__init__()
        self.counts: Mapping[str, int] = counts

    @abstractmethod
    def forward(self, inputs: tuple[Tensor, ...], segments: Seen) -> Tensor:
        """All rows of the documents, any share of the heads -> (rows, heads, ...), as many as went in or others."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """Rows on their way: int64 `counts` (experts here,) of the rows that each expert of this process gets."""

    counts: Tensor


class Dispatch(nn.Module, ABC):
    """Sends rows that are sorted by expert to where the experts are, and brings the answers back.

    `announce` may start what `send` needs; work that is done between them overlaps with it.
    """

    @abstractmethod
    def announce(self, counts: Tensor) -> Shipment:
        """Say how many rows each of all experts gets, int64 (experts,)."""

    @abstractmethod
    def send(self, rows: Tensor, shipment: Shipment) -> Tensor:
        """Rows (rows, hidden) sorted by expert -> the rows of the experts here, sorted by expert."""

    @abstractmethod
    def bring(self, rows: Tensor, shipment: Shipment) -> Tensor:
        """The way back, of the experts' answers."""


@final
class LocalDispatch(Dispatch):
    """All experts are in this process: rows stay where they are."""

    def announce(self, counts: Tensor) -> Shipment:
        return Shipment(counts)

    def send(self, rows: Tensor, shipment: Shipment) -> Tensor:  # noqa: ARG002
        return rows

    def bring(self, rows: Tensor, shipment: Shipment) -> Tensor:  # noqa: ARG002
        return rows


class StackedExperts(nn.Module, ABC):
    """Experts whose weights are stacked: each parameter is (experts, outputs, inputs), and `width_dims` says which dim
    of it is the experts' width. Their number and width follow from the weights."""

    width_dims: ClassVar[Mapping[str, int]]


class WithResults(NamedTuple):
    """What a module makes of rows, and results beside it by name: no gradient goes through them."""

    rows: Tensor
    results: Mapping[str, Tensor]


class Reporting(nn.Module, ABC):
    """Its forward returns `WithResults`, with some of the names of `results`, each under the submodule that has it."""

    results: tuple[str, ...]


def run(module: nn.Module, rows: Tensor | None, batch: object) -> WithResults:
    """What a module makes of rows and a batch, with results or without."""
    made = module(rows, batch)
    return made if isinstance(module, Reporting) else WithResults(made, {})


def under(place: str, results: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Results of a submodule."""
    return {f"{place}.{name}": result for name, result in results.items()}


COUNTS, BALANCE, FURTHER, TERMS = "counts", "balance", "further", "terms"
"""Results that a step sums: int64 (choices,) of what a layer chose, the balance loss of these choices, a scalar, the
losses (depths,) of multi-token prediction, and the further terms (terms,) of scores."""


class Counted(Reporting, ABC):
    """A layer that reports COUNTS and BALANCE of its choices, and may change by the counts of a step."""

    results = (COUNTS, BALANCE)

    @abstractmethod
    def settle(self, counts: Tensor, is_broken: Tensor) -> None:
        """Take a step's counts over all ranks, int64 (choices,); nothing changes if it `is_broken`, bool ()."""


Offer = Callable[[Tensor, Callable[[], Tensor]], Tensor | None]
"""What becomes of the gradient of a weight: it is returned, or None if it was left for later."""


class OffersWeight(nn.Module, ABC):
    """Computes the gradient of a weight by itself, and gives it to `offer`."""

    offer: Offer


class Foreign(nn.Module, ABC):
    """Holds a module `tower` that knows no seams, whose rows all ranks of a lane compute alike.

    `tensor_rules` are the linear layers in it that tensor parallelism cuts: patterns of their names, each with the role
    `outputs`, `inputs` or `whole`.
    """

    tower: nn.Module
    tensor_rules: tuple[tuple[str, str], ...]


class Wide(nn.Module, ABC):
    """A submodule that computes in the dtype in which its parameters are stored, whatever the compute dtype is."""


def widened(rows: Tensor) -> Tensor:
    """The rows in at least float32."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


class Fusible(nn.Module, ABC):
    """Has functions of rows alone, the `regions`, without an exchange or a kernel of their own inside."""

    regions: ClassVar[tuple[str, ...]] = ()


class Layer(Fusible, ABC):
    """A residual layer, of which backward may keep the input alone; `kind` is what a plan calls it."""

    kind: str = "L"
