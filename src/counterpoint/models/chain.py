"""A model as a sequence of named parts; a pipeline stage is a consecutive subsequence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

from torch import Tensor, nn

from counterpoint.models.batch import Batch, FeatureBatch, ItemBatch
from counterpoint.models.scored import AllRows, ScoredRows
from counterpoint.models.seams import Reporting, StageEnter, StageLeave, run, under

MAIN = ""
"""The port of the output rows of the last part, or of the loss."""


def port_of(layer: int) -> str:
    """The port of a layer's output rows."""
    return f"d{layer}"


Earlier = Mapping[str, nn.Module]
"""The earlier parts of the same chain, by name."""

Build = Callable[[Earlier], nn.Module]


@dataclass(frozen=True)
class Part:
    """A named piece of a model.

    `build` receives the earlier parts of the chain, and may use the weights of those that it `reads`. A part that
    `makes_rows` reads only the batch, and comes first. If a part `emits` a port other than MAIN, its output leaves by
    that port, and the next part receives the same input rows. A part that works `by_row` maps each row independently
    and emits nothing. One that `makes_loss` ends the chain with a scalar; it needs no row without a label if it is
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
    """Runs its parts in order; parameters have the same names as in the whole model.

    The first `num_sources` parts make rows from the batch; all rows then pass `enter`. Outputs pass `leave`, one per
    port. After the first `num_whole` parts, if others follow, `narrow` prunes rows without a label. `shared` are parts
    whose weights other parts read, so these weights must be unsharded while the chain runs. Results of parts leave by
    ports `<part>.<result>`, a subset of `results`. `losses` of the output rows leave by ports, too, in the order of
    `batch.compared`.
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
        """Map the stage's input rows (None if its first part makes them) to its outputs by port.

        MAIN has the output rows, or the loss.
        """
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
        """Attach a loss to the output rows of the last part.

        `loss` maps rows and `Compared` to the same rows and a scalar, which leaves by the port `losses.<name>`.
        """
        self.losses[name] = loss
        self.results = (*self.results, f"losses.{name}")

    def _adopt(self, name: str, module: nn.Module) -> None:
        """Register `module` under a dotted name, with a nested container for each piece before the last."""
        parent: nn.Module = self
        *folders, leaf = name.split(".")
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.ModuleDict())
            parent = parent.get_submodule(folder)
        parent.add_module(leaf, module)


def build_chain(parts: Iterable[Part]) -> Chain:
    """Build consecutive parts of a model, with uninitialised parameters; best called on the meta device."""
    parts = tuple(parts)
    built: dict[str, nn.Module] = {}
    for part in parts:
        built[part.name] = part.build(built)
    shared = frozenset(name for part in parts for name in part.reads if name in built)
    modules = [(part, built[part.name]) for part in parts]
    num_sources = sum(part.makes_rows for part in parts)
    return Chain(modules, num_sources=num_sources, num_whole=_num_whole(parts), shared=shared)


def _num_whole(parts: Sequence[Part]) -> int:
    """Number of leading parts that need all rows: every part, or those before the row-wise parts that end in a head."""
    if not any(part.scored for part in parts):
        return len(parts)
    mixing = (number for number, part in enumerate(parts) if not (part.by_row or part.scored))
    return 1 + max(mixing, default=-1)
