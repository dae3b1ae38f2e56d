"""Weights & Biases as configs know it."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.recorders.kind import RecorderKind, RecorderSection
from counterpoint.section.section import Text


class WandbSection(RecorderSection):
    """A run in Weights & Biases; credentials come from `WANDB_API_KEY` or `wandb login`, and `WANDB_MODE` counts."""

    kind: Literal["wandb"] = "wandb"
    """Weights & Biases, which the extra `wandb` installs."""
    project: Text
    """The project in which the run is shown."""
    entity: Text | None = None
    """The user or team whose project it is (null: the default of whoever is logged in)."""
    name: Text | None = None
    """The name under which the run is shown (null: the name of its folder)."""
    group: Text | None = None
    """The group of runs in which it is shown (null: none)."""
    tags: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Words that the run is found by."""


WANDB = RecorderKind(
    section=WandbSection, open_with="counterpoint.recorders.wandb.run:WandbRun", needs=("wandb",),
    install="pip install 'counterpoint[wandb]'", is_remote=True,
)  # fmt: skip
