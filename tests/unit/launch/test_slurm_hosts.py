"""Slurm's node lists, expanded as `scontrol show hostnames` does, and where rank 0 is."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import InputError
from counterpoint.launch import adopt_slurm
from counterpoint.slurm import expand_hosts, first_host
from tests.unit.cli.test_joined import SRUN

NAME = "SLURM_STEP_NODELIST"


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("node7", "node7"),
        ("a,b", "a b"),
        ("gpu[003-005,9],cpu1", "gpu003 gpu004 gpu005 gpu9 cpu1"),
        ("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"),
        ("node[01-02]-ib0", "node01-ib0 node02-ib0"),
        ("a,b[3,5-7]", "a b3 b5 b6 b7"),
        ("n[08-11].site.org", "n08.site.org n09.site.org n10.site.org n11.site.org"),
        ("x[9-11]", "x9 x10 x11"),
        ("x[1,003,2-3]y[0]", "x1y0 x003y0 x2y0 x3y0"),
        ("[1-2]", "1 2"),
    ],
)
def test_a_list_is_expanded(nodes: str, hosts: str) -> None:
    assert tuple(expand_hosts(nodes, NAME)) == tuple(hosts.split())


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=3))
def test_brackets_multiply(ranges: list[tuple[int, int, int]]) -> None:
    numbers = [[f"{n:0{width}d}" for n in range(first, first + more + 1)] for first, more, width in ranges]
    nodes = "".join(f"n[{first:0{width}d}-{first + more:0{width}d}]" for first, more, width in ranges)
    assert tuple(expand_hosts(nodes, NAME)) == tuple("".join(f"n{n}" for n in one) for one in product(*numbers))


@pytest.mark.parametrize(
    "nodes",
    ["", "a[", "a]", "a[1", "a[[1]]", "a[]", "a[1-]", "a[3-1]", "a[1-2-3]", "a[x]", "a,,b", ",a", "a,", "a b",
     "a[1, 2]", "a[0-999999999999]", "a[\u0661]"],
)  # fmt: skip
def test_a_malformed_list_is_refused(nodes: str) -> None:
    with pytest.raises(InputError, match=f"{NAME}: got .*expected a list of hosts"):
        first_host(nodes, NAME)


def test_rank_0_is_on_the_first_node_of_the_step() -> None:
    """Not where srun was typed, nor on the first node of the job."""
    typed = SRUN | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}
    for environment, host in ((typed, "gpu003"), (typed | {NAME: "r[2-3]n[07-08]"}, "r2n07")):
        environment = dict(environment)
        adopt_slurm(environment)
        assert environment["MASTER_ADDR"] == host
    given_by_user = {**typed, NAME: "broken[", "MASTER_ADDR": "chosen"}
    adopt_slurm(given_by_user)
    assert given_by_user["MASTER_ADDR"] == "chosen"
    without = {name: value for name, value in typed.items() if not name.endswith("NODELIST")}
    with pytest.raises(InputError, match=r"SLURM_STEP_NODELIST: got nothing"):
        adopt_slurm(without)
