"""Only execute/groups.py knows of a default process group: everything else is handed its groups."""

import ast
from collections.abc import Iterator

import pytest

from tests.unit.structure.sources import trees

HOME = "execute.groups"
WITH_GROUP = {
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_gather_single",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "get_global_rank",
    "get_group_rank",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "irecv",
    "isend",
    "monitored_barrier",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_single",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "send",
}
"""Functions of torch.distributed that take the default group when they are given none."""

GROUP_FIRST = {"barrier", "get_rank", "get_world_size", "get_process_group_ranks", "get_global_rank", "get_group_rank"}
"""Those whose first argument is the group."""

FORBIDDEN = {
    "_get_default_group",
    "destroy_process_group",
    "group.WORLD",
    "GroupMember.WORLD",
    "init_device_mesh",
    "init_process_group",
    "is_initialized",
    "new_group",
    "new_subgroups",
    "split_group",
}
P2P_ARGUMENTS = 4
"""P2POp(operation, tensor, peer, group)."""

CHECKPOINT_CALLS = {"save", "load", "async_save"}
"""Of torch.distributed.checkpoint, imported by name; with `no_dist` they ask for no group."""

C10D = ("torch.distributed", "torch.distributed.distributed_c10d")


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression of names and attributes, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def _distributed_name(node: ast.expr) -> str:
    """The name below torch.distributed of an expression that spells it `dist.` or in full, else an empty string."""
    name = _dotted(node)
    for prefix in ("torch.distributed.", "dist."):
        if name.startswith(prefix):
            return name.removeprefix(prefix).removeprefix("distributed_c10d.")
    return ""


def _has_group(call: ast.Call, name: str) -> bool:
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("group", "process_group", "no_dist")]
    given = named or (call.args[:1] if name in GROUP_FIRST else [])
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in given)


def _aliases(tree: ast.Module) -> set[str]:
    """Variables that stand for a collective: `gather = dist.a if new else dist.b`."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call)
        if any(isinstance(n, ast.expr) and _distributed_name(n) in WITH_GROUP for n in ast.walk(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def default_group_uses(tree: ast.Module) -> Iterator[str]:
    """Where a file falls back on the default group, or makes or ends groups itself."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in C10D:
            names = {alias.name for alias in node.names} & (WITH_GROUP | FORBIDDEN)
            yield from (f"line {node.lineno}: imports {name}" for name in sorted(names))
        elif isinstance(node, ast.Attribute) and _distributed_name(node) in FORBIDDEN:
            yield f"line {node.lineno}: {_dotted(node)}"
        elif isinstance(node, ast.Call):
            name = _distributed_name(node.func)
            needs_group = name in WITH_GROUP or _dotted(node.func) in {*aliases, *CHECKPOINT_CALLS}
            if needs_group and not _has_group(node, name):
                yield f"line {node.lineno}: {_dotted(node.func)} without a group"
            if name == "P2POp" and len(node.args) < P2P_ARGUMENTS and not _has_group(node, name):
                yield f"line {node.lineno}: P2POp without a group"


@pytest.mark.parametrize("module", sorted(set(trees()) - {HOME}))
def test_no_default_group_outside_its_file(module: str) -> None:
    assert list(default_group_uses(trees()[module])) == []


def test_its_file_is_there() -> None:
    assert list(default_group_uses(trees()[HOME]))


@pytest.mark.parametrize(
    "line",
    [
        "dist.all_reduce(x)",
        "dist.all_reduce(x, dist.ReduceOp.SUM)",
        "dist.all_reduce(x, group=None)",
        "dist.barrier()",
        "dist.get_rank()",
        "torch.distributed.get_world_size()",
        "dist.P2POp(dist.isend, x, 1)",
        "run(dist.group.WORLD)",
        "dist.distributed_c10d._get_default_group()",
        "dist.new_group([0])",
        "from torch.distributed import all_reduce",
        "gather = dist.all_gather_single if new else dist.all_gather_into_tensor\ngather(out, x)",
        "save(tensors, checkpoint_id=folder)",
    ],
)
def test_each_way_to_the_default_group_is_seen(line: str) -> None:
    assert list(default_group_uses(ast.parse(line)))
