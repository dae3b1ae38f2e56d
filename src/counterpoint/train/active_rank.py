"""What a rank trains with."""

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
    """One of the ranks that train a plan, and what it does that with; `run` is the run folder."""

    run: Path
    session: Session
    groups: Groups
    engine: Engine
    reader: Reader
    recorder: Listener
    saver: Saver

    @property
    def is_leader(self) -> bool:
        """Whether it is the first of them, which writes what is written once."""
        return self.session.world.rank == self.engine.plan.placement.active[0]
