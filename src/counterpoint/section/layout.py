"""Where a module runs and how it is cut."""

from typing import Literal

from counterpoint.section.section import Count, Counts, Ranks, Section, Several


class ExpertLayoutConfig(Section):
    """The expert view of the same ranks: expert parallelism and tensor parallelism inside an expert."""

    ep: Count = 1
    etp: Count = 1


class LayoutConfig(Section):
    """Axes and ranks of a module.

    `ranks` left out are dealt from the world; `dp_shard` left out follows from the number of ranks. `split`
    gives the layers of every stage. `reshard: false` keeps parameters gathered for a whole step, `true`
    gathers them for each forward and backward.
    """

    ranks: Ranks | None = None
    pp: Count = 1
    dp_replicate: Count = 1
    dp_shard: Count | None = None
    cp: Count = 1
    tp: Count = 1
    chunks: Several = 1
    split: Literal["even"] | Counts = "even"
    sequence_parallel: bool = True
    reshard: bool = False
    expert: ExpertLayoutConfig = ExpertLayoutConfig()

    @property
    def fixed_degree(self) -> int:
        """The product of all degrees but dp_shard."""
        return self.pp * self.dp_replicate * self.cp * self.tp
