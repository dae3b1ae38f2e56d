"""Slurm's lists: of nodes, `r[1-2]n[01-04],login` for r1n01 to r2n04 and login, and of their tasks, `8(x4),2`."""

import re
from collections.abc import Iterator
from itertools import chain, product

from counterpoint.errors import InputError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?", re.ASCII)
_MOST_HOSTS = 1_000_000


def expand_hosts(nodes: str, name: str) -> Iterator[str]:
    """All hosts of a node list in its order; raises InputError that names `name` as the variable with the list."""
    # The whole list is checked before the first host is yielded.
    patterns = [_hosts(pattern, nodes, name) for pattern in _patterns(nodes, name)]
    return chain.from_iterable(patterns)


def first_host(nodes: str, name: str) -> str:
    """The first host of a node list; the whole list is checked."""
    return next(expand_hosts(nodes, name))


def tasks_of_node(tasks: str, name: str, node: int) -> int:
    """How many tasks the node of a number has; raises InputError that names `name` as the variable with the list."""
    first = 0
    for part in tasks.split(","):
        match = _TASKS.fullmatch(part)
        if match is None:
            break
        first += int(match[2] or 1)
        if node < first:
            return int(match[1])
    raise InputError(
        f"{name}: got {tasks!r} in the environment, expected the tasks of each node such as 8(x4),2, of node {node} "
        "too; start ranks with srun"
    )


def _patterns(nodes: str, name: str) -> Iterator[str]:
    """The list cut at the commas that are not in brackets."""
    depth, first = 0, 0
    for place, sign in enumerate(nodes):
        depth += {"[": 1, "]": -1}.get(sign, 0)
        if depth not in (0, 1):
            raise _malformed(nodes, name)
        if sign == "," and not depth:
            yield nodes[first:place]
            first = place + 1
    if depth:
        raise _malformed(nodes, name)
    yield nodes[first:]


def _hosts(pattern: str, nodes: str, name: str) -> Iterator[str]:
    """Words and bracketed ranges in turn; the last range runs fastest."""
    parts = [
        _numbers(part[1:-1], nodes, name) if part.startswith("[") else [part]
        for part in re.split(r"(\[[^\]]*\])", pattern)
    ]
    if not pattern or re.search(r"\s", pattern):
        raise _malformed(nodes, name)
    return ("".join(words) for words in product(*parts))


def _numbers(ranges: str, nodes: str, name: str) -> list[str]:
    """`01-03,7` as 01, 02, 03, 7: a range's numbers are padded with zeros to the width of its first."""
    numbers: list[str] = []
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part)
        if match is None or not part.isascii():
            raise _malformed(nodes, name)
        first, last = match[1], match[2] or match[1]
        if not 0 <= int(last) - int(first) < _MOST_HOSTS:
            raise _malformed(nodes, name)
        numbers += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return numbers


def _malformed(nodes: str, name: str) -> InputError:
    return InputError(
        f"{name}: got {nodes!r} in the environment, expected a list of hosts such as gpu[01-04,7],login; start ranks "
        "with srun, or set MASTER_ADDR to the host of rank 0"
    )
