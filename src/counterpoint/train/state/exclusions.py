"""Exclusions that a run stores for its next start when it ends because of documents that are not finite."""

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import final

from pydantic import TypeAdapter, ValidationError

from counterpoint.data.fingerprint import Fingerprint
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import CheckpointError, RunError
from counterpoint.section.section import Index
from counterpoint.train.state.durable import write_synced

EXCLUSIONS_FILE = "nonfinite.json"


@dataclass(frozen=True, slots=True)
class _Kept:
    data: Fingerprint
    exclusions: tuple[tuple[Index, Index, Index], ...]


@final
@dataclass(frozen=True, slots=True)
class KeptExclusions:
    """The stored exclusions of a run folder, valid for the same data; `goes_on` is false for a run that starts over."""

    run: Path
    data: Fingerprint
    goes_on: bool

    def write(self, exclusions: Iterable[Exclusion]) -> None:
        """Store exclusions for the next start of a run that ends before it saves them; raises RunError on failure."""
        content = {"data": self.data, "exclusions": [astuple(exclusion) for exclusion in exclusions]}
        partial = self._file.with_name(f"{EXCLUSIONS_FILE}.partial")
        try:
            write_synced(partial, json.dumps(content).encode())
            partial.replace(self._file)
        except OSError as error:
            raise RunError(
                f"{self._file}: it cannot be written ({error.strerror}), so the next start meets what was left out "
                "again; make room or correct the rights first"
            ) from error

    def read(self) -> tuple[Exclusion, ...]:
        """The exclusions that an earlier start stored; empty for other data, or if the run starts over.

        Raises CheckpointError for a malformed file.
        """
        if not self.goes_on or not self._file.is_file():
            return ()
        try:
            kept = TypeAdapter(_Kept).validate_json(self._file.read_bytes(), strict=True)
        except ValidationError as error:
            raise CheckpointError(
                f"{self._file}: it cannot be read ({error.errors()[0]['msg']}), expected the documents that an earlier "
                "start left out; restore it, or remove it, and they are met again"
            ) from None
        if kept.data != json.loads(json.dumps(self.data)):
            return ()
        return tuple(Exclusion(*entry) for entry in kept.exclusions)

    @property
    def _file(self) -> Path:
        return self.run / EXCLUSIONS_FILE
