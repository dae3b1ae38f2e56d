"""What an edge of the graph of modules joins, for a config that asks for it and a plan that has it."""

from dataclasses import dataclass

from counterpoint.section.section import Text


@dataclass(frozen=True)
class Connection:
    """Rows of one module that enter another."""

    source: Text
    """Name of the module whose output rows cross: an encoder or an adapter."""
    target: Text
    """Name of the module that the rows enter: an adapter or the decoder. The source's projector maps rows to its
    width."""
