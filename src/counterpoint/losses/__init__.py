"""What is trained: the losses of a plan's last rows."""

from counterpoint.losses.kind import LossKind
from counterpoint.losses.next_token import NEXT_TOKEN
from counterpoint.registry import Registry

LOSSES = Registry[LossKind]("loss", {"next_token": NEXT_TOKEN})
