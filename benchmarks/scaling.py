"""How plans scale: seconds and peak memory of plan, proof and clock, from 64 to 16,384 ranks, in one process each.

    python benchmarks/scaling.py [--ranks 64 256 1024 4096 16384] [--shapes disjoint colocated hybrid] [--json FILE]

Three shapes, each of the 54-layer recipe and of 32 microbatches: a dense language model (tp8, cp2, pp16, its dp as
large as leaves ranks for vision) beside vision on the rest, or on the same ranks as vision; and the recipe's hybrid
with ep64 (pp2, cp2, tp2) beside vision. Where ranks are too few, pp and ep are halved until they fit. The seconds are
those of one processor, which are those of the clock where nothing else runs; `wall_seconds` are the latter.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

RECIPE = Path(__file__).parents[1] / "recipes" / "nemotron6-moe-vlm-54l.yaml"
SHAPES = ("disjoint", "colocated", "hybrid")
TP, CP, PP, EP, MICROBATCHES = 8, 2, 16, 64, 32

Result = TypeVar("Result")


def main() -> None:
    """Measure each world in a process of its own, print a table, and write the figures where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 256, 1024, 4096, 16384])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help="measure one world in this process and print its figures")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.shapes[0], given.ranks[0])))
        return
    rows = []
    print(_HEAD)
    for shape in given.shapes:
        before: dict[str, Any] = {}
        for ranks in given.ranks:
            call = [sys.executable, __file__, "--one", "--shapes", shape, "--ranks", str(ranks)]
            ended = subprocess.run(call, capture_output=True, text=True, check=True)
            row = json.loads(ended.stdout)
            row["growth"] = round(row["seconds"]["all"] / before["seconds"]["all"], 2) if before else None
            print(_line(row), flush=True)
            rows.append(row)
            before = row
    if given.json is not None:
        machine = f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
        found = {"machine": machine, "load_average": os.getloadavg()[0], "rows": rows}
        given.json.write_text(f"{json.dumps(found, indent=1)}\n")


def measure(shape: str, ranks: int) -> dict[str, Any]:
    """The figures of one world; imports are not counted."""
    from counterpoint.check.proof import check_plan
    from counterpoint.check.roles import coarse
    from counterpoint.config.load import load_config
    from counterpoint.setup.run import build_plan
    from counterpoint.simulate.clock import simulate

    overrides = layouts(shape, ranks)
    began, spent = time.perf_counter(), Timed()
    plan = spent("config", lambda: build_plan(load_config(RECIPE, overrides)))
    spent("schedule", lambda: (plan.schedule, plan.evaluation))
    proof = spent("proof", lambda: check_plan(plan))
    timeline = spent("clock", lambda: simulate(plan))
    groups = spent("communicators", lambda: plan.communicators)
    wall = time.perf_counter() - began
    seconds = {**spent.seconds, "all": round(sum(spent.seconds.values()), 3)}
    return {
        "shape": shape,
        "ranks": ranks,
        "language": str(plan.layouts["language"]),
        "vision": str(plan.layouts["vision"]),
        "seconds": seconds,
        "wall_seconds": round(wall, 3),
        "roles": len(coarse(plan, plan.schedule.programs).by_role),
        "roles_of_clock": len(timeline.by_role),
        "clock_is_bound": timeline.is_bound,
        "makespan": timeline.makespan,
        "bubble": round(timeline.bubble_fraction, 4),
        "events": proof.events,
        "communicators": len(groups),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


class Timed:
    """Processor seconds of what is called, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Result]) -> Result:
        began = time.process_time()
        result = work()
        self.seconds[name] = round(time.process_time() - began, 3)
        return result


def layouts(shape: str, ranks: int) -> list[str]:
    """Overrides of the recipe for a shape and a number of ranks."""
    tp, cp, pp, ep = (2, 2, 2, EP) if shape == "hybrid" else (TP, CP, PP, 1)
    most = ranks if shape == "colocated" else ranks - 1
    while pp * max(ep, tp * cp) > most:
        pp, ep = (pp // 2, ep) if pp > 1 else (pp, ep // 2)
    unit = pp * max(ep, tp * cp)
    used = most // unit * unit
    language = f"{{pp: {pp}, dp_shard: {used // (pp * cp * tp)}, cp: {cp}, tp: {tp}, expert: {{ep: {ep}}}"
    overrides = [f"world.size={ranks}", f"schedule.microbatches={MICROBATCHES}"]
    overrides.append(f"training.global_batch_samples={MICROBATCHES * used // (pp * cp * tp)}")
    if shape == "colocated":
        every = f"ranks: [{', '.join(map(str, range(used)))}]"
        overrides += [f"modules.language.layout={language}, {every}}}", f"modules.vision.layout={{{every}}}"]
    else:
        overrides += [f"modules.language.layout={language}}}", "modules.vision.layout={}"]
    if shape != "hybrid":
        overrides += [f'modules.language.model.pattern="{"*-" * 27}"', "modules.language.model.mamba=null"]
        overrides += ["modules.language.model.moe=null", "modules.language.model.ffn=10752"]
    return overrides


_HEAD = (
    "| shape | ranks | config s | schedule s | proof s | clock s | all s | growth | wall s | roles | of the clock | "
    "communicators | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def _line(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    growth = "" if row["growth"] is None else f"{row['growth']:.1f} x"
    bound = " (bound)" if row["clock_is_bound"] else ""
    cells = [row["shape"], f"{row['ranks']:,}"]
    cells += [f"{seconds[name]:.2f}" for name in ("config", "schedule", "proof", "clock", "all")]
    cells += [growth, f"{row['wall_seconds']:.1f}", str(row["roles"]), f"{row['roles_of_clock']}{bound}"]
    cells += [f"{row['communicators']:,}", f"{row['peak_mib']:,}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
