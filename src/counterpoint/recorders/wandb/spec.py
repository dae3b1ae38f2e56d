"""The section of Weights & Biases."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.recorders.kind import RecorderKind, RecorderSection
from counterpoint.section.section import Text


class WandbSection(RecorderSection):
    """A run in Weights & Biases; credentials come from `WANDB_API_KEY` or `wandb login`; `WANDB_MODE` is respected."""

    kind: Literal["wandb"] = "wandb"
    """Weights & Biases; the extra `wandb` installs it."""
    project: Text
    """The project of the run."""
    entity: Text | None = None
    """The user or team that owns the project; null: the default entity of the login."""
    name: Text | None = None
    """The name of the run; null: the name of its folder."""
    group: Text | None = None
    """The group of the run; null: none."""
    tags: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Tags of the run."""


WANDB = RecorderKind(
    section=WandbSection, open_with="counterpoint.recorders.wandb.run:WandbRun", needs=("wandb",),
    install="pip install 'counterpoint[wandb]'", is_remote=True,
)  # fmt: skip
