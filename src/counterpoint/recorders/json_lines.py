"""The file metrics.jsonl: one JSON object per line."""

import json
import os
from pathlib import Path

from counterpoint.recorders.kind import Record, Recording

METRICS_FILE = "metrics.jsonl"


class JsonLines:
    """Writes the values of each record with its step, and flushes the file."""

    def __init__(self, recording: Recording) -> None:
        path = recording.folder / METRICS_FILE
        self._file = path.open("a" if recording.goes_on else "w")
        if recording.goes_on and not _ends_whole(path):
            self._file.write("\n")

    def record(self, record: Record) -> None:
        if record.values:
            self._file.write(json.dumps({"step": record.step, **record.values}) + "\n")
            self._file.flush()

    def close(self, is_finished: bool) -> None:  # noqa: ARG002  # the file is the same
        self._file.close()


def _ends_whole(file: Path) -> bool:
    """Whether the last line of a file has its end, which a run that was killed or whose disk was full may lack."""
    with file.open("rb") as lines:
        return lines.seek(0, os.SEEK_END) == 0 or (lines.seek(-1, os.SEEK_END) >= 0 and lines.read() == b"\n")
