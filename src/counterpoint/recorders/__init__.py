"""Recorders of runs: the kinds that a config can list. The terminal and metrics.jsonl are always present."""

from counterpoint.recorders.csv.spec import CSV
from counterpoint.recorders.kind import RecorderKind
from counterpoint.recorders.mlflow.spec import MLFLOW
from counterpoint.recorders.tensorboard.spec import TENSORBOARD
from counterpoint.recorders.wandb.spec import WANDB
from counterpoint.registry import Registry

RECORDERS = Registry[RecorderKind](
    "recorder", {"tensorboard": TENSORBOARD, "csv": CSV, "wandb": WANDB, "mlflow": MLFLOW}
)
