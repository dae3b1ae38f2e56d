"""What keeps the lowest loss."""

import math

from counterpoint.extend import Record, Recording, numbers_of
from counterpoint_example.best.spec import BestSection


class Best:
    """Writes the lowest loss so far; what it raises would be said once, and training would go on."""

    def __init__(self, section: BestSection, recording: Recording) -> None:
        self._file, self._best = recording.folder / section.file, math.inf

    def record(self, record: Record) -> None:
        loss = numbers_of(record).get("loss", math.inf)
        if loss < self._best:
            self._best = loss
            self._file.write_text(f"{loss:.6f} in step {record.step}\n")

    def close(self, is_finished: bool) -> None:
        """The file is closed between records."""
