"""The check that all ranks have loaded the same versions of plug-ins."""

from collections.abc import Mapping, Sequence

from counterpoint.errors import InputError
from counterpoint.execute.tree import Tree


def check_versions(versions: Mapping[str, str], ranks: Sequence[int], tree: Tree | None) -> None:
    """Raise InputError on all `ranks` of the tree unless they have loaded the same versions of the same plug-ins."""
    assert tree is not None, "only active ranks compare"
    gathered = tree.gather(dict(versions))
    error = tree.broadcast(None if gathered is None else first_difference(gathered, ranks))
    if error is not None:
        raise InputError(error)


def first_difference(versions: Sequence[Mapping[str, str]], ranks: Sequence[int]) -> str | None:
    """The sentence about the first of `ranks` whose versions are not those of the first rank; None without any."""
    first, *others = versions
    for rank, other in zip(ranks[1:], others, strict=True):
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                return (
                    f"run.plugins: got {name} {first.get(name, 'not at all')} on rank {ranks[0]} and "
                    f"{other.get(name, 'not at all')} on rank {rank}, expected one version on all ranks; install the "
                    "same one everywhere, and give all ranks the same config"
                )
    return None
