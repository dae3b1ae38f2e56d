"""TensorBoard event files."""

from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.numbers import numbers_of
from counterpoint.recorders.tensorboard.spec import TensorBoardSection


class TensorBoard:
    """Writes every number of a step or an evaluation as a scalar."""

    def __init__(self, _section: TensorBoardSection, recording: Recording) -> None:
        # Imported here, because it takes seconds, and other processes never write.
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(recording.folder / "tensorboard"))

    def record(self, record: Record) -> None:
        for name, value in numbers_of(record).items():
            self._board.add_scalar(name, value, record.step)

    def close(self, is_finished: bool) -> None:  # noqa: ARG002  # curves have no end
        self._board.close()
