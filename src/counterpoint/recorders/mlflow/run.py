"""A run in MLflow."""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from counterpoint.recorders.identity import keep_identity, kept_identity
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.mlflow.spec import MlflowSection
from counterpoint.recorders.numbers import numbers_of

STORE_FILE = "mlflow.db"
_TRACKING = "MLFLOW_TRACKING_URI"
_MOST_PARAMETERS, _LONGEST_PARAMETER, _MOST_METRICS = 100, 500, 1000
"""Limits of one request, and the longest parameter value that every server accepts."""


class MlflowRun:
    """Logs numbers by step, and the config's keys as parameters when the run begins.

    A resumed run continues the same MLflow run, unless the store no longer has it.
    """

    def __init__(self, section: MlflowSection, recording: Recording) -> None:
        # Imported here, because it takes seconds, and other processes never log.
        import mlflow
        from mlflow.entities import Metric, Param

        # Otherwise it would print messages about its database tables on the terminal.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._metric = Metric
        store = f"sqlite:///{recording.folder.resolve() / STORE_FILE}"
        address = section.tracking_uri or os.environ.get(_TRACKING) or store
        self._client: Any = mlflow.MlflowClient(tracking_uri=address)
        known, self._id = kept_identity(recording), ""
        if known is not None and self._goes_on(known):
            self._id = known
            return
        name = section.name or recording.folder.resolve().name
        run = self._client.create_run(self._experiment(section.experiment), run_name=name)
        self._id = run.info.run_id
        keep_identity(recording, self._id)
        parameters = [Param(key, value[:_LONGEST_PARAMETER]) for key, value in _flat(recording.config, "")]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[first : first + _MOST_PARAMETERS])

    def record(self, record: Record) -> None:
        now = round(1000 * time.time())
        metrics = [self._metric(_key(n), float(value), now, record.step) for n, value in numbers_of(record).items()]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def close(self, is_finished: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if is_finished else "KILLED")

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _goes_on(self, identity: str) -> bool:
        """Reopen an earlier run; False if the store does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(identity, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True


def _key(name: str) -> str:
    """A name with only the characters that MLflow accepts, without empty path components."""
    return re.sub(r"/{2,}", "/", re.sub(r"[^\w\-. :/]", "_", name))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
