"""The id of a run in external services, stored in the run folder so that a resumed run continues there."""

import json
from contextlib import suppress
from typing import Any

from counterpoint.recorders.kind import Recording

RECORDERS_FILE = "recorders.json"


def kept_identity(recording: Recording) -> str | None:
    """The id that an earlier start stored; None if there is none, or if the run starts over."""
    identity = _read(recording).get(recording.name) if recording.goes_on else None
    return identity if isinstance(identity, str) else None


def keep_identity(recording: Recording, identity: str) -> None:
    """Store the id of a recorder's run for the next start; raises OSError."""
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
