"""Ranks of a pool that is larger than a config's world."""

from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.member import Member


def is_spare(member: Member, config: Config) -> bool:
    """Whether a rank lies beyond the config's world; then it helps to make the groups, and is done."""
    if member.world.rank < config.world.size:
        return False
    member.groups(prepare_run(config).plan)
    return True
