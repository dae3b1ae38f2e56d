"""What layers with norms around their sublayer have in common, before torch."""

from counterpoint.kinds.layer import LayerSection
from counterpoint.plan.tensors import Tensors
from counterpoint.section.section import Positive


class NormedSection(LayerSection):
    """The base of layers of a sublayer that reads a norm of the rows.

    With `post_norm` a norm of what the sublayer made is added to the rows (Ding et al., 2021, arXiv:2105.13290), in the
    place of what it made.
    """

    norm_eps: Positive = 1e-5
    post_norm: bool = False


def with_norms(section: NormedSection, hidden: int, sublayer: Tensors) -> Tensors:
    """The tensors of a layer: those of the sublayer between its norms."""
    behind = (("post_norm.weight", (hidden,)),) if section.post_norm else ()
    return (("norm.weight", (hidden,)), *sublayer, *behind)


def kept_by_norms(section: NormedSection, hidden: int) -> int:
    """Values of a row that backward reads of the norms."""
    return (2 + section.post_norm) * hidden
