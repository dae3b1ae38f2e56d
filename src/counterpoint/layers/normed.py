"""What layers with norms around their sublayer have in common, before torch."""

from counterpoint.kinds.layer import LayerSection
from counterpoint.plan.tensors import Tensors
from counterpoint.section.section import Positive


class NormedSection(LayerSection):
    """The base of layers of a sublayer that reads a norm of the rows."""

    norm_eps: Positive = 1e-5
    """Added to the mean square (or variance) inside norms. No unit."""
    post_norm: bool = False
    """Whether a norm is applied to what a sublayer made, too, before it is added to the rows (Ding et al., 2021,
    arXiv:2105.13290)."""


def with_norms(section: NormedSection, hidden: int, sublayer: Tensors) -> Tensors:
    """The tensors of a layer: those of the sublayer between its norms."""
    behind = (("post_norm.weight", (hidden,)),) if section.post_norm else ()
    return (("norm.weight", (hidden,)), *sublayer, *behind)


def kept_by_norms(section: NormedSection, hidden: int) -> int:
    """Values of a row that backward reads of the norms."""
    return (2 + section.post_norm) * hidden
