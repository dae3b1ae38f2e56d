"""The file metrics.jsonl: one JSON object per line."""

import json

from counterpoint.recorders.kind import Record, Recording

METRICS_FILE = "metrics.jsonl"


class JsonLines:
    """Writes the values of each record with its step, and flushes the file."""

    def __init__(self, recording: Recording) -> None:
        self._file = (recording.folder / METRICS_FILE).open("a" if recording.goes_on else "w")

    def record(self, record: Record) -> None:
        if record.values:
            self._file.write(json.dumps({"step": record.step, **record.values}) + "\n")
            self._file.flush()

    def close(self, is_finished: bool) -> None:  # noqa: ARG002  # the file is the same
        self._file.close()
