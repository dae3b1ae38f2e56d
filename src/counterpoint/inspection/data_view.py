"""How a run's config sees a prepared folder: the intakes of its modules, and its sequence."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.config.load import load_config
from counterpoint.kinds.modality import Intakes
from counterpoint.setup.data import intakes_of
from counterpoint.setup.settle import settle_items
from counterpoint.sources.prepared.source import PreparedSource


@dataclass(frozen=True, slots=True)
class DataView:
    """The intakes of modules, and the rows of a sequence."""

    intakes: Intakes
    sequence_tokens: int

    @classmethod
    def of(cls, config: Path, sequence_tokens: int | None = None) -> "DataView":
        """The view of a config, with sequences of another length if one is given; raises ConfigError."""
        settled = settle_items(load_config(config))
        return cls(intakes_of(settled), sequence_tokens or settled.data.sequence_tokens)

    def open(self, folder: Path, split: str) -> PreparedSource:
        """A split of a folder as a run of the config reads it; raises DataError if it cannot."""
        return PreparedSource(folder, split, 0, self.intakes, self.sequence_tokens)
