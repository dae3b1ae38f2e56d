"""Section and facts of Mamba-2, without torch (Dao and Gu, 2024, arXiv:2405.21060)."""

import math
from collections.abc import Iterator
from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.layer import LayerKind
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.layers.normed import NormedSection, kept_by_norms, with_norms
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.part_facts import Mixer, PartFacts
from counterpoint.plan.tensors import joined, linear, products
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Positive, Section

VECTORS_OF_DYNAMICS = ("a_log", "dt_bias", "d")


class MambaConfig(Section):
    """The Mamba-2 layers of a decoder (Dao and Gu, 2024, arXiv:2405.21060)."""

    heads: Count
    """Heads of the recurrence, a multiple of `groups`; tp must divide them, and cp those of a tensor-parallel rank.
    Unit: heads."""
    head_dim: Count
    """Width of one head; `heads` x `head_dim` is the inner width. Unit: columns."""
    groups: Count = 1
    """Groups of heads that share their input and output vectors (B and C); tp must divide them. Unit: groups."""
    state: Count
    """State size of each channel. Unit: elements."""
    conv: Count = 4
    """Width of the causal convolution. Unit: rows."""
    chunk: Count = 64
    """Rows that the scan computes in one block; changes speed and memory, not the result. Kernels for bfloat16 on
    GPUs take 64. Unit: rows."""
    dt_min: Positive | None = None
    """Lower bound of the recurrence's time step; null: no bound. No unit."""

    @property
    def inner(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_dim


class MambaLayerConfig(MambaConfig, NormedSection):
    """A layer of Mamba-2."""

    kind: Literal["mamba"]


def _facts(name: str, section: MambaLayerConfig, hidden: int) -> PartFacts:
    inner, shared = section.inner, section.groups * section.state
    convolved = {"x": inner, "b": shared, "c": shared}
    projected = {"z": inner, **convolved, "dt": section.heads}
    linears = (
        *joined(linear(f"mamba.{key}", hidden, width, bias=False) for key, width in projected.items()),
        *linear("mamba.o", inner, hidden, bias=False),
    )
    filters = joined(linear(f"mamba.{key}_conv", section.conv, width, bias=True) for key, width in convolved.items())
    dynamics = tuple((f"mamba.dynamics.{key}", (section.heads,)) for key in VECTORS_OF_DYNAMICS)
    # Scores and mixing within a chunk, then updating its state and reading the previous one.
    scan = 2 * section.chunk * (shared + inner) + 4 * inner * section.state
    return PartFacts(
        name=name,
        tensors=with_norms(section, hidden, (*linears, *filters, *dynamics, ("mamba.norm.weight", (inner,)))),
        flops_per_row=products(linears) + products(filters) + scan,
        kept=kept_by_norms(section, hidden) + _recurrence_keeps(section) + _gated_norm_keeps(section),
        # Backward has the gradients of the scores in each chunk and of the states between chunks.
        working=(Kept(section.chunk * section.heads), Kept(2 * inner * section.state / section.chunk), Kept(2 * inner)),
        mixers=(Mixer(section.heads, section.groups, section.head_dim, section.state),),
        hidden_out=hidden,
    )


def _recurrence_keeps(section: MambaConfig) -> Keeps:
    """Dynamics, convolutions and scan. The plain scan keeps scores and decays of each pair of rows in a chunk; our
    kernels keep the states between chunks."""
    inner, shared, heads, chunk = section.inner, section.groups * section.state, section.heads, section.chunk
    streams = inner + 2 * shared
    read, made = Kept(streams), Kept(streams, of="convs")
    # The plain scan reads copies of what belongs to groups.
    streams_of_scan = Kept(inner, of="convs"), Kept(2 * shared)
    # Each tap has shifted rows and a mask; SiLU has its input.
    taps = Kept(section.conv * streams, of="convs"), Kept(3 * (section.conv - 1), "byte", of="convs")
    states = Kept(inner * section.state / chunk)
    pairs = (
        Kept(chunk, "float64"), Kept(chunk, "byte"), Kept(chunk * heads, "wide"), Kept(chunk * heads, "narrowed"),
        Kept(chunk * (heads + section.groups)), Kept(4 * inner + 2 * shared), Kept(4 * heads, "narrowed"),
    )  # fmt: skip
    scan = (Kept(2 * heads, "wide"), states)
    steps, step = Kept(heads, "wide"), Kept(heads)
    return Keeps(
        (steps, steps, *taps, read, *streams_of_scan, *pairs, states, Kept(2 * heads, "wide")),
        (steps, read, made, *scan),
        (step, read, made, *scan),
    )


def _gated_norm_keeps(section: MambaConfig) -> Keeps:
    """The mixed rows and their gate, what the norm of their product keeps, and the rows that the last product reads."""
    inner, groups = section.inner, section.groups
    read = Kept(inner, is_read=True)
    eager = (Kept(2 * inner), Kept(2 * inner), read)
    plain = (*eager, Kept(inner, "wide"), Kept(groups, "wide"))
    kernels = (*eager, Kept(inner), Kept(groups, "wide"))
    return Keeps(plain, kernels, (Kept(2 * inner), Kept(groups, "wide"), read))


def mamba_problems(where: str, section: MambaConfig) -> Iterator[Problem]:
    """Problems of `groups`: they do not divide `heads`."""
    if section.heads % section.groups:
        yield Problem(
            f"{where}.groups", f"{section.groups}", f"a divisor of {where}.heads, {section.heads}", "change one of them"
        )


def _cuts(section: MambaLayerConfig) -> Cuts:
    return Cuts(tp={"heads": section.heads, "groups": section.groups}, cp={"heads": section.heads})


def _decay_rate(share: float) -> float:
    """Initial a_log: the logarithm of a rate uniform in 1 to 16, as in Mamba-2 (arXiv:2405.21060)."""
    return math.log(1.0 + 15.0 * share)


def _step_bias(share: float) -> float:
    """Initial dt bias: softplus of it is a step between 0.001 and 0.1, log-uniform (arXiv:2312.00752)."""
    step = math.exp(math.log(0.001) + share * (math.log(0.1) - math.log(0.001)))
    return step + math.log(-math.expm1(-step))


MAMBA = LayerKind(
    section=MambaLayerConfig,
    facts=_facts,
    cuts=_cuts,
    problems=lambda where, section, _hidden: mamba_problems(where, section),
    layer="counterpoint.layers.mamba.model:layer",
    rules=(TensorRule("*.mamba.o.weight", "inputs"), TensorRule("*.mamba.*", "outputs")),
    initial=(
        Initial("*.dynamics.a_log", of_uniform=_decay_rate),
        Initial("*.dynamics.dt_bias", of_uniform=_step_bias),
        Initial("*.dynamics.d", mean=1.0),
        # The standard deviation of torch's uniform initialisation for width 4; biases of filters are zeros.
        Initial("*_conv.weight", std=0.29),
    ),
    steers=("chunk",),
)
