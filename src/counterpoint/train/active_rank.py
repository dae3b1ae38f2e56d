"""The objects with which a rank trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoint.data.feed.reader import Reader
from counterpoint.execute.groups import Groups
from counterpoint.execute.session import Session
from counterpoint.train.engine import Engine
from counterpoint.train.listener import Listener
from counterpoint.train.state.saving import Saver


@final
@dataclass(frozen=True, slots=True)
class ActiveRank:
    """The objects with which one of the ranks of a plan trains; `run` is the run folder."""

    run: Path
    session: Session
    groups: Groups
    engine: Engine
    reader: Reader
    recorder: Listener
    saver: Saver

    @property
    def is_leader(self) -> bool:
        """Whether this is the first active rank, which writes the files that exist once."""
        return self.session.world.rank == self.engine.plan.placement.active[0]
