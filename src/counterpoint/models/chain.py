"""A model as an ordered run of named parts; a pipeline stage is a shorter run of the same parts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

from torch import Tensor, nn

from counterpoint.models.batch import Batch, FeatureBatch, ItemBatch
from counterpoint.models.scored import AllRows, ScoredRows
from counterpoint.models.seams import Reporting, StageEnter, StageLeave, run, under

MAIN = ""
"""The port of the rows that leave the last part, or of the loss."""


def port_of(layer: int) -> str:
    """The port by which what leaves a layer is handed on."""
    return f"d{layer}"


Earlier = Mapping[str, nn.Module]
"""The parts of a chain that come before one, by name."""

Build = Callable[[Earlier], nn.Module]


@dataclass(frozen=True)
class Part:
    """A named piece of a model.

    `build` is given the earlier parts of the same chain, so that it can read the weights of those it `reads`;
    a part that `makes_rows` reads only the batch and comes first. What a part computes leaves by the port that it
    `emits`, if that is not MAIN, and the rows go on as they came. A part that works `by_row` maps every row alone and
    emits nothing; one that `makes_loss` ends the chain with a scalar, and reads no row without a label if it is
    `scored`.
    """

    name: str
    build: Build
    makes_rows: bool = False
    reads: tuple[str, ...] = ()
    emits: str = MAIN
    by_row: bool = False
    makes_loss: bool = False
    scored: bool = False


@final
class Chain(nn.Module):
    """Runs its parts in order; parameters keep the names that they have in the whole model.

    The first `num_sources` parts make rows out of the batch and stand before `enter`, which all rows cross; `leave` is
    crossed by what leaves, by port. After the first `num_whole` parts, if others follow, `narrow` prunes the rows
    without a label. Other parts read the weights of `shared` ones, which must therefore be whole while the chain runs.
    Results of parts leave by ports that are called `<part>.<result>`, some of the names of `results`; so do `losses` of
    the rows that leave, in the order in which the batch has what these are compared with.
    """

    def __init__(
        self, modules: Sequence[tuple[Part, nn.Module]], *, num_sources: int, num_whole: int, shared: frozenset[str]
    ) -> None:
        super().__init__()
        self.num_sources, self.num_whole = num_sources, num_whole
        self.shared = shared
        self.enter: nn.Module = StageEnter()
        self.narrow: nn.Module = ScoredRows() if num_whole < len(modules) else AllRows()
        self.leave: nn.Module = nn.Identity() if any(part.makes_loss for part, _module in modules) else StageLeave()
        self.leave_ports = nn.ModuleDict()
        self.losses = nn.ModuleDict()
        self.part_names: list[str] = []
        self._ports: list[str] = []
        reporting = ((part.name, module) for part, module in modules if isinstance(module, Reporting))
        self.results = tuple(f"{name}.{result}" for name, module in reporting for result in module.results)
        for part, module in modules:
            self._adopt(part.name, module)
            self.part_names.append(part.name)
            self._ports.append(part.emits)
            if part.emits != MAIN:
                self.leave_ports[part.emits] = StageLeave()

    def parts(self) -> list[tuple[str, nn.Module]]:
        """The parts in order, with their names."""
        return [(name, self.get_submodule(name)) for name in self.part_names]

    def forward(self, rows: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Map the stage's input rows, None where its first part makes them, to what leaves by each port: output rows or
        the loss by MAIN."""
        outputs: dict[str, Tensor] = {}
        parts = self.parts()
        for _name, part in parts[: self.num_sources]:
            rows = part(rows, batch)
        rows = self.enter(rows)
        seeing_all = slice(self.num_sources, self.num_whole)
        for (name, part), port in zip(parts[seeing_all], self._ports[seeing_all], strict=True):
            made, results = run(part, rows, batch)
            outputs |= under(name, results)
            if port == MAIN:
                rows = made
            else:
                outputs[port] = self.leave_ports[port](made)
        rows, batch = self.narrow(rows, batch)
        for name, part in parts[self.num_whole :]:
            rows, results = run(part, rows, batch)
            outputs |= under(name, results)
        outputs[MAIN] = self.leave(rows)
        for place, (name, loss) in enumerate(self.losses.items()):
            given = cast(ItemBatch | FeatureBatch, batch).compared[place]
            outputs[MAIN], outputs[f"losses.{name}"] = loss(outputs[MAIN], given)
        return outputs

    def compare(self, name: str, loss: nn.Module) -> None:
        """Attach one more loss to the rows that leave the last part; it maps them and what the batch compares them with
        to the same rows and a scalar, which leaves by the port `losses.<name>`."""
        self.losses[name] = loss
        self.results = (*self.results, f"losses.{name}")

    def _adopt(self, name: str, module: nn.Module) -> None:
        """Register `module` under a dotted name, with a folder for every piece before the last dot."""
        parent: nn.Module = self
        *folders, leaf = name.split(".")
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.ModuleDict())
            parent = parent.get_submodule(folder)
        parent.add_module(leaf, module)


def build_chain(parts: Iterable[Part]) -> Chain:
    """Build a contiguous run of a model's parts; parameters have no values yet, best on the meta device."""
    parts = tuple(parts)
    built: dict[str, nn.Module] = {}
    for part in parts:
        built[part.name] = part.build(built)
    shared = frozenset(name for part in parts for name in part.reads if name in built)
    modules = [(part, built[part.name]) for part in parts]
    num_sources = sum(part.makes_rows for part in parts)
    return Chain(modules, num_sources=num_sources, num_whole=_num_whole(parts), shared=shared)


def _num_whole(parts: Sequence[Part]) -> int:
    """How many parts need rows without a label: all, or those before the run that works row by row up to a head."""
    if not any(part.scored for part in parts):
        return len(parts)
    mixing = (number for number, part in enumerate(parts) if not (part.by_row or part.scored))
    return 1 + max(mixing, default=-1)
