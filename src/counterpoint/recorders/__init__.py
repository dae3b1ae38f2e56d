"""What keeps and shows what a run does. The kinds here are those that a config lists; terminal and metrics.jsonl always
are there."""

from counterpoint.recorders.csv.spec import CSV
from counterpoint.recorders.kind import RecorderKind
from counterpoint.recorders.mlflow.spec import MLFLOW
from counterpoint.recorders.tensorboard.spec import TENSORBOARD
from counterpoint.recorders.wandb.spec import WANDB
from counterpoint.registry import Registry

RECORDERS = Registry[RecorderKind](
    "recorder", {"tensorboard": TENSORBOARD, "csv": CSV, "wandb": WANDB, "mlflow": MLFLOW}
)
