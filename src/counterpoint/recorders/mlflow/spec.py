"""The section of MLflow."""

from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from counterpoint.credentials import has_credentials
from counterpoint.recorders.kind import RecorderKind, RecorderSection
from counterpoint.section.section import Text


def _without_credentials(address: str) -> str:
    if has_credentials(address):
        raise PydanticCustomError(
            "text_mismatch",
            "an address without user and password, which MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD hold",
        )
    return address


class MlflowSection(RecorderSection):
    """A run in MLflow; credentials come from MLflow's environment variables, `MLFLOW_TRACKING_TOKEN` and others."""

    kind: Literal["mlflow"] = "mlflow"
    """MLflow; the extra `mlflow` installs it."""
    experiment: Text
    """The experiment of the run; it is created if it does not exist."""
    tracking_uri: Annotated[Text, AfterValidator(_without_credentials)] | None = None
    """The address of the tracking server or store (null: `MLFLOW_TRACKING_URI` of the environment, else the file
    `mlflow.db` in the run's folder)."""
    name: Text | None = None
    """The name under which the run is shown (null: the name of its folder)."""


MLFLOW = RecorderKind(
    section=MlflowSection, open_with="counterpoint.recorders.mlflow.run:MlflowRun", needs=("mlflow",),
    install="pip install 'counterpoint[mlflow]'", is_remote=True,
)  # fmt: skip
