"""A module's axes over its ranks: the dense view and the expert view of the same rank list."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from counterpoint.errors import PlacementError
from counterpoint.section.layout import Axes, ExpertAxes


class Coordinate(NamedTuple):
    """A rank's place in the dense view; `dp` counts lanes, replicate-major."""

    pp: int
    dp: int
    cp: int
    tp: int


class ExpertCoordinate(NamedTuple):
    """A rank's place among its stage's ranks in the expert view."""

    edp: int
    ep: int
    etp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Axes, ExpertAxes):
    """One module's parallel layout: dense `pp x dp x cp x tp`, expert `pp x edp x ep x etp`, innermost last.

    Stage number i lives at the coordinate i modulo pp.
    Ranks ascend along the list and therefore along every axis. Raises PlacementError otherwise,
    or when the degrees do not multiply to the number of ranks.
    """

    module: str
    ranks: tuple[int, ...]
    dp_shard: int = 1

    def __post_init__(self) -> None:
        where = f"modules.{self.module}.layout"
        for axis in ("pp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "chunks"):
            degree = getattr(self, axis)
            if degree < 1:
                raise PlacementError(f"{where}.{axis}: got {degree}, expected at least 1; leave it out for 1")
        for before, after in pairwise(self.ranks):
            if after <= before:
                what = "twice" if after == before else f"after {before}"
                raise PlacementError(
                    f"{where}.ranks: got {list(self.ranks)} with {after} listed {what}, expected ascending ranks; "
                    f"list them as {sorted(set(self.ranks))} and choose axes by degrees, not by order"
                )
        product = self.pp * self.dp * self.cp * self.tp
        if product != len(self.ranks):
            raise PlacementError(
                f"{where}: pp {self.pp} x dp {self.dp} x cp {self.cp} x tp {self.tp} = {product}, expected "
                f"{len(self.ranks)}, the number of ranks in {list(self.ranks)}; change a degree or the rank list"
            )
        if self.stage_size % self.expert_size:
            raise PlacementError(
                f"{where}.expert: ep {self.ep} x etp {self.etp} does not divide the {self.stage_size} ranks of a "
                f"stage (dp {self.dp} x cp {self.cp} x tp {self.tp}); choose degrees whose product divides it"
            )

    @property
    def dp(self) -> int:
        """Number of lanes."""
        return self.dp_replicate * self.dp_shard

    @property
    def edp(self) -> int:
        """Data-parallel degree of the expert view."""
        return self.stage_size // self.expert_size

    @property
    def expert_size(self) -> int:
        """Ranks that hold all experts together: ep x etp."""
        return self.ep * self.etp

    @property
    def lane_size(self) -> int:
        """Ranks that share a lane's rows at one stage: cp x tp."""
        return self.cp * self.tp

    @property
    def stage_size(self) -> int:
        """Ranks of one pipeline stage."""
        return self.dp * self.lane_size

    def index(self, rank: int) -> int:
        """The place of a global rank in the rank list; raises KeyError for a rank outside the module."""
        place = bisect_left(self.ranks, rank)
        if place == len(self.ranks) or self.ranks[place] != rank:
            raise KeyError(f"rank {rank} is not in module {self.module}: {format_ranks(self.ranks)}")
        return place

    def __contains__(self, rank: int) -> bool:
        """Whether a global rank is one of the module's."""
        place = bisect_left(self.ranks, rank)
        return place < len(self.ranks) and self.ranks[place] == rank

    def coordinate(self, rank: int) -> Coordinate:
        """The dense coordinate of a global rank; raises KeyError for a rank outside the module."""
        rest, tp = divmod(self.index(rank), self.tp)
        rest, cp = divmod(rest, self.cp)
        pp, dp = divmod(rest, self.dp)
        return Coordinate(pp, dp, cp, tp)

    def expert_coordinate(self, rank: int) -> ExpertCoordinate:
        """The expert coordinate of a global rank; raises KeyError for a rank outside the module."""
        edp, rest = divmod(self.index(rank) % self.stage_size, self.expert_size)
        return ExpertCoordinate(edp, *divmod(rest, self.etp))

    def rank_at(self, pp: int, dp: int, cp: int = 0, tp: int = 0) -> int:
        """The global rank at a dense coordinate."""
        return self.ranks[((pp * self.dp + dp) * self.cp + cp) * self.tp + tp]

    def stage_ranks(self, stage: int) -> tuple[int, ...]:
        """All ranks of a pipeline stage, ascending."""
        place = stage % self.pp
        return self.ranks[place * self.stage_size : (place + 1) * self.stage_size]

    def lane_ranks(self, stage: int, lane: int) -> tuple[int, ...]:
        """The cp x tp ranks that hold a lane's rows, in row order."""
        start = stage % self.pp * self.stage_size + lane * self.lane_size
        return self.ranks[start : start + self.lane_size]

    def group(self, axis: str, rank: int) -> tuple[int, ...]:
        """The ranks that differ from `rank` along `axis` only: pp, dp_replicate, dp_shard, dp, cp, tp, lane, ep, edp or
        stage.

        `dp_shard` spans the ranks that FSDP shards dense parameters over, cp included, and `edp` those
        that it shards experts over; `lane` is the cp x tp ranks of a lane, `ep` the ep x etp ranks that trade rows of
        experts, `stage` all ranks of a place of the pipeline.
        """
        return self.group_at(axis, self.index(rank))

    def group_at(self, axis: str, place: int) -> tuple[int, ...]:
        """The group of the rank at a place of the rank list, see `group`."""
        first, step, size = self.line(axis, place)
        return self.ranks[first : first + (size - 1) * step + 1 : step]

    def line(self, axis: str, place: int) -> tuple[int, int, int]:
        """A group as places of the rank list: the first, the step, and their number; `place` is that of a member."""
        # An axis is an interval of the list's index, counted in ranks: its step and its number of places.
        lane, shard = self.lane_size, self.dp_shard * self.lane_size
        match axis:
            case "pp":
                step, size = self.stage_size, self.pp
            case "dp":
                step, size = lane, self.dp
            case "dp_replicate":
                step, size = shard, self.dp_replicate
            case "dp_shard":
                # cp lies between the lanes and tp, so that both together are one line.
                step, size = self.tp, self.dp_shard * self.cp
            case "cp":
                step, size = self.tp, self.cp
            case "tp":
                step, size = 1, self.tp
            case "lane":
                step, size = 1, lane
            case "ep":
                step, size = 1, self.expert_size
            case "edp":
                step, size = self.expert_size, self.edp
            case "stage":
                step, size = 1, self.stage_size
            case _:
                raise KeyError(f"{axis} is not an axis of a layout")
        return place - place // step % size * step, step, size

    def groups(self, axis: str, stage: int | None = None) -> tuple[tuple[int, ...], ...]:
        """All groups of an axis, or those of a place of the pipeline, in the order of their first ranks.

        Together they partition the ranks.
        """
        within = range(len(self.ranks))
        if stage is not None:
            within = within[stage * self.stage_size : (stage + 1) * self.stage_size]
        firsts = (place for place in within if self.line(axis, place)[0] == place)
        return tuple(self.group_at(axis, first) for first in firsts)

    def __str__(self) -> str:
        named = {
            "pp": self.pp,
            "dp": self.dp,
            "cp": self.cp,
            "tp": self.tp,
            "ep": self.ep,
            "etp": self.etp,
            "chunks": self.chunks,
        }
        degrees = " x ".join(f"{axis}{degree}" for axis, degree in named.items() if degree > 1) or "1"
        return f"{self.module}: {degrees} on {format_ranks(self.ranks)}"


def format_ranks(ranks: tuple[int, ...]) -> str:
    """Ranks as ranges: (0, 1, 2, 5) becomes `0-2,5`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
