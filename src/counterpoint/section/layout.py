"""How a module is cut, as a config asks for it: axes in the dense and in the expert view, and the ranks.

What a plan takes over as it was asked for is declared in classes that are no sections; layouts are made of them too.
"""

from dataclasses import dataclass
from typing import Literal

from counterpoint.section.section import Count, Counts, Ranks, Section, Several


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Degrees of the dense view that do not depend on the world, and how parameters and rows are kept along them."""

    pp: Count = 1
    """Pipeline parallelism: ranks that the layers are cut over, each of which has consecutive ones. Unit: ranks."""
    dp_replicate: Count = 1
    """Data-parallel replicas: groups of ranks that hold the same parameters and sum their gradients. Unit: ranks."""
    cp: Count = 1
    """Context parallelism: ranks that the rows of a sequence are cut over; it must divide the attention heads of a
    tensor-parallel rank. Unit: ranks."""
    tp: Count = 1
    """Tensor parallelism: ranks that heads, `ffn` and vocabulary are cut over; it must divide heads and `ffn`.
    Unit: ranks."""
    chunks: Several = 1
    """Pipeline stages of each rank (virtual stages), for the schedules `interleaved` and `zero_bubble`.
    Unit: stages."""
    sequence_parallel: bool = True
    """Whether the tp ranks share out the rows between their products (norms, residuals), rather than each hold all."""
    reshard: bool = False
    """Whether FSDP2 frees gathered parameters after each forward and backward and gathers them again (less memory),
    rather than keeping them for all microbatches of a step."""

    @property
    def fixed_degree(self) -> int:
        """The product of all degrees but dp_shard."""
        return self.pp * self.dp_replicate * self.cp * self.tp

    @property
    def stages(self) -> int:
        """Pipeline stages: pp x chunks."""
        return self.pp * self.chunks


@dataclass(frozen=True, kw_only=True)
class ExpertAxes:
    """Degrees of the expert view."""

    ep: Count = 1
    """Expert parallelism: ranks that the experts of a layer are dealt to. Must divide the number of experts.
    Unit: ranks."""
    etp: Count = 1
    """Tensor parallelism inside an expert: ranks that share its `ffn`. Must divide it. Unit: ranks."""


# mypy takes a section, which is frozen as it is made, for a dataclass that is not.
class ExpertLayoutConfig(Section, ExpertAxes):  # type: ignore[misc]
    """The expert view of a module's ranks: expert parallelism, and tensor parallelism inside each expert."""


class LayoutConfig(Section, Axes):  # type: ignore[misc]
    """The ranks of a module, pp x dp_replicate x dp_shard x cp x tp of them, and its degrees of parallelism."""

    ranks: Ranks | None = None
    """Ranks of the module, ascending, as a list or as text such as `0-7,16-23`; along them tp varies fastest, then cp,
    dp and pp. null: the lowest ranks that no other module names, in the order of the modules. Unit: ranks."""
    dp_shard: Count | None = None
    """Data-parallel ranks over which FSDP2 shards parameters, gradients and optimizer state; null: what the
    number of ranks and the other degrees leave. Unit: ranks."""
    split: Literal["even"] | Counts = "even"
    """Number of layers of every pipeline stage, in order; `even`: as equal as can be. Unit: layers."""
    expert: ExpertLayoutConfig = ExpertLayoutConfig()
    """The expert view of the same ranks, for models with mixtures of experts: ep x etp must divide the ranks of a
    pipeline stage."""
