"""The optimizers of a run's modules."""

from counterpoint.optimizers.adamw.spec import ADAMW
from counterpoint.optimizers.kind import OptimizerKind
from counterpoint.optimizers.muon.spec import MUON
from counterpoint.registry import Registry

OPTIMIZERS = Registry[OptimizerKind]("optimizer", {"adamw": ADAMW, "muon": MUON})
