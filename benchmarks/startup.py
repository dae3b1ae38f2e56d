"""What groups cost at start-up: their number, sockets, descriptors, threads and seconds in a world of gloo processes.

    python benchmarks/startup.py [--config FILE] [--fan-out 64 4 2] [--rounds 3] [--json FILE]

Local processes make the groups of a config's plan in turn: once with a group for every list of ranks, lists of one
included, and two groups of all ranks (as it was), and then with none for a single rank and trees of each fan-out.
Further lines are the costs that `counterpoint plan` extrapolates from: a group of n ranks that a process is in, and one
that it is not in. Figures are medians of the rounds, of the slowest or fullest rank; what a process has before is
subtracted.

    torchrun --nproc-per-node=8 benchmarks/startup.py --joined [--json FILE]

measures how long a communicator of n ranks takes to start instead, of GPUs on machines that have some.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.execute.groups import GroupCache, make_groups
from counterpoint.plan.communicators import COLLECTIVE_AXES, EXPERT_AXES
from counterpoint.plan.plan import Plan
from counterpoint.plan.tree import FAN_OUT
from counterpoint.setup.run import build_plan
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

CONFIG = Path(__file__).parents[1] / "recipes" / "tiny" / "nemotron6-moe-vlm-20l-disjoint.yaml"

Found = dict[str, float]


def former_groups(plan: Plan) -> list[tuple[int, ...]]:
    """The lists of ranks that each had a group before: also those of one rank, and all ranks twice."""
    several = [(each.ranks, each.name) for each in plan.communicators]
    axes = [(layout, axis) for layout in plan.placement.layouts for axis in (*COLLECTIVE_AXES, *EXPERT_AXES)]
    alone = {group for layout, axis in axes for group in layout.groups(axis) if len(group) == 1}
    return [*(ranks for ranks, _name in several), *sorted(alone), plan.placement.active, plan.placement.active]


def measured(act: Callable[[], int]) -> Found:
    """What an act that makes groups costs this process: `groups` is what it returns."""
    before, began = _held(), time.perf_counter()
    groups = act()
    seconds = time.perf_counter() - began
    return {"groups": groups, "seconds": seconds} | {key: count - before[key] for key, count in _held().items()}


def _held() -> Found:
    """The sockets, descriptors and threads of this process (Linux)."""
    targets = list(_targets(Path("/proc/self/fd")))
    return {
        "sockets": sum(target.startswith("socket:") for target in targets),
        "descriptors": len(targets),
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }


def _targets(folder: Path) -> Iterator[str]:
    for descriptor in folder.iterdir():
        try:
            yield os.readlink(descriptor)
        except FileNotFoundError:
            # What listed the folder is closed by now.
            continue


def before_task(member: Member, config: Config) -> Found | None:
    """The groups as they were."""
    made: list[dist.ProcessGroup] = []
    wanted = former_groups(build_plan(config))

    def make() -> int:
        groups = [dist.new_group(list(ranks)) for ranks in wanted]
        made.extend(group for group in groups if isinstance(group, dist.ProcessGroup))
        return len(groups)

    return _worst(member, measured(make), made)


def after_task(member: Member, config: Config, fan_out: int) -> Found | None:
    """The groups as they are."""
    plan, cache = build_plan(config), GroupCache()
    wanted = plan.communicators
    joined = 0

    def make() -> int:
        nonlocal joined
        groups = make_groups(member.world, wanted, plan.placement.active, cache, fan_out)
        joined = groups.joined
        return groups.created

    found = measured(make) | {"joined": joined}
    own = [cache.own] if cache.own is not None else []
    return _worst(member, found, [*cache.groups.values(), *cache.controls.values(), *own])


def group_task(member: Member, size: int, count: int) -> Found | None:
    """Making `count` groups of the first `size` ranks: seconds for each, of ranks that are in it and that are not."""
    made: list[dist.ProcessGroup] = []

    def make() -> int:
        made.extend(dist.new_group(list(range(size)), backend=member.world.host_backend) for _time in range(count))
        return count

    found = measured(make)
    inside = member.world.rank < size
    each = found["seconds"] / count
    mine = {
        "inside_seconds": each * inside,
        "outside_seconds": each * (not inside),
        "sockets": found["sockets"] / count,
    }
    return _worst(member, mine, made if inside else [])


def _worst(member: Member, mine: Found, groups: Iterable[dist.ProcessGroup | None]) -> Found | None:
    """The largest figure of all ranks, on rank 0; then all groups are destroyed, and no rank is ahead."""
    told = [mine] * dist.get_world_size()
    dist.all_gather_object(told, mine)
    for group in groups:
        if group is not None:
            dist.destroy_process_group(group)
    dist.barrier()
    return {key: max(one[key] for one in told) for key in mine} if member.world.rank == 0 else None


def _median(rounds: list[Found]) -> Found:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def on_gloo(options: argparse.Namespace) -> dict[str, Found]:
    """The figures of local processes, by what was made."""
    config = load_config(options.config, options.set)
    size = config.world.size
    rows: dict[str, list[Found]] = {}
    with Pool(size, timeout_seconds=600.0) as pool:
        for _round in range(options.rounds + 1):
            rows.setdefault("as it was", []).append(pool.run(before_task, config))
            for fan_out in options.fan_out:
                rows.setdefault(f"trees of fan-out {fan_out}", []).append(pool.run(after_task, config, fan_out))
            for ranks in sorted({1, 2, size // 2, size}):
                rows.setdefault(f"a group of {ranks}", []).append(pool.run(group_task, ranks, options.count))
    # The first round imports what later ones have.
    return {name: _median(rounds[1:]) for name, rounds in rows.items()}


def joined(options: argparse.Namespace) -> dict[str, Found]:
    """Seconds until a communicator of n ranks has started, the first one and the median of several, as one of the ranks
    that torchrun started: on GPUs if there are some."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    has_gpus = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpus else torch.device("cpu")
    if has_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpus else "gloo")
    rows: dict[str, Found] = {}
    number = torch.zeros(1, device=device)
    for ranks in sorted({n for n in (1, 2, 4, 8, 16, 32, 64) if n < size} | {size}):
        seconds: list[float] = []
        for _time in range(options.count):
            dist.all_reduce(number)
            float(number)
            began = time.perf_counter()
            group = dist.new_group(list(range(ranks)))
            if rank < ranks:
                dist.all_reduce(number, group=group)
                float(number)
            seconds.append(time.perf_counter() - began)
        rows[f"a communicator of {ranks}"] = {"first_seconds": seconds[0], "seconds": statistics.median(seconds)}
        if has_gpus:
            free, total = torch.cuda.mem_get_info()
            rows[f"a communicator of {ranks}"]["used_mib_after"] = (total - free) / 2**20
    dist.destroy_process_group()
    return rows if rank == 0 else {}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--fan-out", type=int, nargs="*", default=[FAN_OUT, 4, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=8, help="groups that are made at once where one is measured")
    parser.add_argument("--joined", action="store_true", help="as one of the ranks that torchrun started")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = joined(options) if options.joined else on_gloo(options)
    for name, found in rows.items():
        figures = "  ".join(f"{key} {value:.4g}" for key, value in found.items())
        print(f"{name:<24} {figures}")
    if options.json is not None and rows:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
