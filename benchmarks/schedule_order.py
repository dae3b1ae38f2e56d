"""Do real steps order schedules as the clock does? Every compute action sleeps its unit cost on CPU ranks.

    python benchmarks/schedule_order.py [--unit 0.02] [--rounds 5] [--json FILE]

The models are tiny, so a step's time is what sleeps and waits make of it. Schedules alternate within a round, so that a
busy machine slows all of them alike; the first round warms up and does not count.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.simulate.clock import simulate
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

BASE = Path(__file__).parents[1] / "tests" / "parity" / "tiny.yaml"
COLOCATED = {"ranks": [0, 1, 2, 3]}
SETTINGS: dict[str, dict[str, Any]] = {
    "gpipe": {"kind": "gpipe"},
    "1f1b, encoder first": {"kind": "1f1b", "encoder": "first"},
    "1f1b": {"kind": "1f1b"},
    "1f1b, encoder fills": {"kind": "1f1b", "encoder": "fill"},
    "interleaved x2": {"kind": "interleaved", "chunks": 2},
    "zero_bubble": {"kind": "zero_bubble"},
}


def config_of(setting: dict[str, Any], microbatches: int) -> Config:
    """Language pp4 with an encoder of four lanes and a third of its cost on the same four ranks."""
    data = load_config(BASE).resolved()
    chunks = setting.get("chunks", 1)
    data["world"] |= {"size": 4, "partial_overlap": True}
    data["modules"]["language"]["layout"] = COLOCATED | {"pp": 4, "chunks": chunks}
    data["modules"]["language"]["model"] |= {"pattern": "*-*-*-*-", "tied": False}
    data["modules"]["vision"]["layout"] = COLOCATED
    data["modules"]["language"]["weight"] = 3
    data["schedule"] = {"microbatches": microbatches, **{k: v for k, v in setting.items() if k != "chunks"}}
    data["training"]["global_batch_samples"] = microbatches
    data["data"]["train"][0]["synthetic"]["images_per_document"] = {"kind": "constant", "value": 2}
    return load_config(data)


def measure(member: Member, configs: dict[str, Config], unit: float, rounds: int) -> dict[str, list[float]] | None:
    """Seconds per step of each config, alternating."""
    engines = {}
    for name, config in configs.items():
        plan, models, corpus = prepare_run(config)
        groups = member.groups(plan)
        engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe,))
        _slow_down(engine, unit)
        reader = Reader(plan, member.world.rank, corpus.sources, torch.float32)
        engines[name] = engine, reader.read(plan.batch(0, corpus.packs(0))), groups
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    for _round in range(rounds + 1):
        for name, (engine, inputs, groups) in engines.items():
            assert groups.control is not None
            groups.control.maximum(0)
            start = time.perf_counter()
            engine.train_step(inputs)
            seconds[name].append(time.perf_counter() - start)
    for engine, _inputs, _groups in engines.values():
        engine.close()
    return {name: times[1:] for name, times in seconds.items()} if member.world.rank == 0 else None


def _slow_down(engine: Engine, unit: float) -> None:
    """Let every compute action of this rank sleep its cost once its inputs are there."""
    stages = engine.plan.stages
    for node, replica in engine.replicas.items():
        stage = replica.stage

        def slowed(run: Any, works: tuple[Work, ...], node: Node = node) -> Any:
            def wrapped(microbatch: int, *arguments: Any, **named: Any) -> Any:
                work = works[0] if len(works) == 1 else works[arguments[-1] is True]
                time.sleep(stages.cost(Compute(node, work, microbatch)) * unit)
                return run(microbatch, *arguments, **named)

            return wrapped

        stage.forward = slowed(stage.forward, (Work.FORWARD,))  # type: ignore[method-assign]
        stage.backward = slowed(stage.backward, (Work.BACKWARD, Work.INPUT))  # type: ignore[method-assign]
        stage.weight_gradients = slowed(stage.weight_gradients, (Work.WEIGHT,))  # type: ignore[method-assign]


def main() -> None:
    """Measure, and print beside what the clock says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--unit", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configs = {name: config_of(setting, options.microbatches) for name, setting in SETTINGS.items()}
    with Pool(4, timeout_seconds=600.0) as pool:
        seconds = pool.run(measure, configs, options.unit, options.rounds)
    rows = []
    for name, config in configs.items():
        predicted = simulate(prepare_run(config).plan).makespan
        median = statistics.median(seconds[name])
        spread = max(seconds[name]) - min(seconds[name])
        rows.append({"schedule": name, "predicted_units": predicted, "median_s": median, "spread_s": spread})
    rows.sort(key=lambda row: float(row["predicted_units"]))
    for row in rows:
        print(
            f"{row['schedule']:<22} predicted {row['predicted_units']:6.1f} units  measured {row['median_s']:.3f} s "
            f"(spread {row['spread_s']:.3f})  {row['median_s'] / row['predicted_units'] / options.unit:.2f} of a unit"
        )
    if options.json is not None:
        settings = {"unit_s": options.unit, "rounds": options.rounds, "microbatches": options.microbatches}
        options.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
