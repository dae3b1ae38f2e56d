"""The check that all ranks have planned the same, before they make any group together."""

from counterpoint.errors import RunError
from counterpoint.execute.groups import World

_KEY = "counterpoint/plan"


def check_digest(world: World, digest: str) -> None:
    """Compare a plan's digest with that of rank 0; every rank of the world calls it, idle ones too.

    Groups that ranks create in different orders would never form, and nobody could say why. Raises RunError on the
    ranks that differ.
    """
    if world.rank == 0:
        world.store.set(_KEY, digest)
        return
    first = world.store.get(_KEY).decode()
    if first != digest:
        raise RunError(
            f"rank {world.rank} has planned something else than rank 0 (digests {digest} and {first}), expected one "
            "plan; give all ranks the same config, and the same versions of counterpoint, of plug-ins and of what "
            "registers schedules"
        )
