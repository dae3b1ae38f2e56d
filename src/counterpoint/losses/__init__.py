"""What is trained: the main loss of a plan's last rows, and further losses that a config gives to modules."""

from collections.abc import Iterable, Iterator
from typing import Any

from counterpoint.losses.contrastive.spec import CONTRASTIVE
from counterpoint.losses.kind import ItemLoss, LossKind, LossSection, ScoreLoss
from counterpoint.losses.main import MainLoss
from counterpoint.losses.next_token import NEXT_TOKEN
from counterpoint.losses.regression.spec import REGRESSION
from counterpoint.losses.z_loss.spec import Z_LOSS
from counterpoint.registry import Registry

MAIN_LOSSES = Registry[MainLoss]("main loss", {"next_token": NEXT_TOKEN})

LOSSES = Registry[LossKind]("loss", {"z_loss": Z_LOSS, "regression": REGRESSION, "contrastive": CONTRASTIVE})


def score_losses(sections: Iterable[LossSection]) -> Iterator[tuple[Any, ScoreLoss]]:
    """Those of a module's sections that are of scores, each with its kind."""
    for section in sections:
        if isinstance(kind := LOSSES[section.kind], ScoreLoss):
            yield section, kind


def item_losses(sections: Iterable[LossSection]) -> Iterator[tuple[Any, ItemLoss]]:
    """Those of a module's sections that are of items' rows, each with its kind."""
    for section in sections:
        if isinstance(kind := LOSSES[section.kind], ItemLoss):
            yield section, kind
