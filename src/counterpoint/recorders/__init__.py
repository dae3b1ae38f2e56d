"""What keeps and shows what a run does."""

from counterpoint.recorders.json_lines import JsonLines
from counterpoint.recorders.kind import RecorderKind
from counterpoint.recorders.tensorboard import TensorBoard, is_wanted
from counterpoint.recorders.terminal import Terminal
from counterpoint.registry import Registry

RECORDERS = Registry[RecorderKind](
    "recorder",
    {
        # First, so that what cannot be written has been said.
        "terminal": RecorderKind(Terminal),
        "json_lines": RecorderKind(JsonLines),
        "tensorboard": RecorderKind(TensorBoard, is_wanted),
    },
)
