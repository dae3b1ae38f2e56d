"""The section of TensorBoard."""

from typing import Literal

from counterpoint.recorders.kind import RecorderKind, RecorderSection


class TensorBoardSection(RecorderSection):
    """Event files for TensorBoard in the folder `tensorboard` of the run."""

    kind: Literal["tensorboard"] = "tensorboard"
    """Curves for TensorBoard."""


TENSORBOARD = RecorderKind(
    section=TensorBoardSection, open_with="counterpoint.recorders.tensorboard.curves:TensorBoard"
)
