"""Kinds for counterpoint: measured series as items, a tower that reads them, and what else a run is made of."""

from math import log

from counterpoint.extend import LoggedStep, Plugin
from counterpoint_example.best.spec import BEST
from counterpoint_example.gated.spec import GATED
from counterpoint_example.logit_penalty.spec import LOGIT_PENALTY
from counterpoint_example.nesterov.spec import NESTEROV
from counterpoint_example.ranking.spec import RANKING
from counterpoint_example.running_mean.spec import RUNNING_MEAN
from counterpoint_example.series.spec import SERIES
from counterpoint_example.tower.spec import SERIES_TOWER
from counterpoint_example.waves.spec import WavesEntry


def bits_per_token(step: LoggedStep) -> float:
    """The loss in bits."""
    return step.loss / log(2)


PLUGIN = Plugin(
    families={"series_tower": SERIES_TOWER},
    layers={"running_mean": RUNNING_MEAN},
    projectors={"gated": GATED},
    modalities=(SERIES,),
    sources={"waves": WavesEntry},
    optimizers={"nesterov": NESTEROV},
    recorders={"best": BEST},
    metrics={"bits_per_token": bits_per_token},
    losses={"logit_penalty": LOGIT_PENALTY, "ranking": RANKING},
)
