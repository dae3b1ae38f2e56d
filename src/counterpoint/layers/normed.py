"""Section and facts of the norms around a sublayer, without torch."""

from counterpoint.kinds.keeps import norm_keeps, read_norm_keeps
from counterpoint.kinds.layer import LayerSection
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps
from counterpoint.plan.tensors import Tensors
from counterpoint.section.section import Positive


class NormedSection(LayerSection):
    """The base of the sections of layers whose sublayer reads normed rows."""

    norm_eps: Positive = 1e-5
    """Added to the mean square (or variance) inside norms. No unit."""
    post_norm: bool = False
    """Whether the output of a sublayer is normed, too, before it is added to the rows (Ding et al., 2021,
    arXiv:2105.13290)."""


def with_norms(section: NormedSection, hidden: int, sublayer: Tensors) -> Tensors:
    """The tensors of a layer: norm, sublayer and, if any, the norm after it."""
    after = (("post_norm.weight", (hidden,)),) if section.post_norm else ()
    return (("norm.weight", (hidden,)), *sublayer, *after)


def kept_by_norms(section: NormedSection, hidden: int, *, is_compiled: bool = True) -> Keeps:
    """What the norms around a sublayer keep for backward, and the normed rows, which the sublayer's products keep."""
    after = norm_keeps("rms", hidden) if section.post_norm else KEEPS_NOTHING
    return read_norm_keeps("rms", hidden, is_compiled=is_compiled) + after
