"""Under which identity a run is known elsewhere, kept in its folder so that a run that goes on is the same there."""

import json
from contextlib import suppress
from typing import Any

from counterpoint.recorders.kind import Recording

RECORDERS_FILE = "recorders.json"


def kept_identity(recording: Recording) -> str | None:
    """The identity that an earlier start kept; None if there is none, or the run starts anew."""
    identity = _read(recording).get(recording.name) if recording.goes_on else None
    return identity if isinstance(identity, str) else None


def keep_identity(recording: Recording, identity: str) -> None:
    """Keep the identity of a recorder's run for the next start; raises OSError."""
    file = recording.folder / RECORDERS_FILE
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(_read(recording) | {recording.name: identity}, indent=1))
    partial.replace(file)


def _read(recording: Recording) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        data = json.loads((recording.folder / RECORDERS_FILE).read_text())
        if isinstance(data, dict):
            return data
    return {}
