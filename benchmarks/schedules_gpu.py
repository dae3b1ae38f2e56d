"""Schedules on two or four GPUs: a language pipeline with a ViT of about a third of its FLOPs on the same ranks, bf16.

    python benchmarks/schedules_gpu.py [--gpus 4] [--rounds 5] [--settings "1f1b, encoder first;filled"] [--json FILE]

All settings are built once and step in alternation. `filled` is laid out by the FLOPs of the first step. A bubble is
the share of a step in which no kernel but NCCL's runs on a GPU, by the profiler; peak memory is what a step adds at
most, and what the setting holds between steps. The predicted makespan is the clock's with FLOPs for costs, as a
multiple of the least that any schedule could take.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.simulate.clock import flop_costs, simulate
from counterpoint.simulate.stage_costs import stage_costs
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

IMAGES = 16

SPLITS = {2: [17, 15], 4: [9, 8, 8, 7], 8: [5, 4, 4, 4, 4, 4, 4, 3]}
"""Layers per stage, by their number: the last stage has the head as well."""

SETTINGS: dict[str, dict[str, Any]] = {
    "1f1b, encoder first": {"kind": "1f1b", "encoder": "first"},
    "1f1b, just in time": {"kind": "1f1b"},
    "1f1b, encoder fills": {"kind": "1f1b", "encoder": "fill"},
    "interleaved x2": {"kind": "interleaved", "encoder": "first", "chunks": 2},
    "filled": {"kind": "filled"},
    "zero_bubble": {"kind": "zero_bubble", "encoder": "first"},
    "zero_bubble, encoder fills": {"kind": "zero_bubble", "encoder": "fill"},
    "1f1b, first, groups of 2": {"kind": "1f1b", "encoder": "first", "encoder_group": 2},
    "zero_bubble, first, groups of 2": {"kind": "zero_bubble", "encoder": "first", "encoder_group": 2},
}


def laid_out(config: Config) -> Config:
    """The config with its stages' FLOPs in the first step as their costs."""
    plan, _models, corpus = prepare_run(config)
    batch = plan.batch(0, corpus.packs(0))
    data = config.resolved()
    for name, costs in stage_costs(plan, flop_costs(plan, batch)).items():
        data["modules"][name]["stage_costs"] = [list(each) for each in costs]
    return load_config(data)


def config_of(setting: dict[str, Any], gpus: int, device: str, microbatches: int, small: bool) -> Config:
    """A 0.9B decoder in a stage a rank and chunk; 16 images of 1024 patches in each document of 16384 rows."""
    scale = 16 if small else 1
    chunks, ranks = setting.get("chunks", 1), list(range(gpus))
    optimizer = {"lr": 1.0e-4, "weight_decay": 0.1}
    image = 32 if not small else 8
    vision = {
        "kind": "vit", "layers": 14, "hidden": 1280 // scale, "heads": 16 // min(scale, 4), "ffn": 5120 // scale,
        "patch": 16, "image": {"max_patches": image * image}, "positions": image, "merge": 2,
        "projector": {"kind": "mlp", "hidden": 2048 // scale},
    }  # fmt: skip
    language = {
        "kind": "decoder", "pattern": "*-" * 16, "hidden": 2048 // scale, "heads": 16 // min(scale, 4), "kv_heads": 4,
        "ffn": 6144 // scale, "vocab": 32000 // scale, "tied": False,
    }  # fmt: skip
    tokens = 16384 // scale
    side = {"kind": "constant", "value": 16 * image}
    synthetic = {
        "documents": 1024, "text_tokens": {"kind": "constant", "value": tokens - IMAGES * image * image // 4},
        "images_per_document": {"kind": "constant", "value": IMAGES}, "image_height": side, "image_width": side,
    }  # fmt: skip
    # CPUs take minutes for a step in bfloat16.
    precision = {"parameters": "float32", "compute": "float32" if small else "bfloat16", "reduce": "float32"}
    config = load_config({
        "schema": 1,
        "run": {"dir": "runs/schedules", "seed": 0, "device": device},
        "world": {"size": gpus},
        "modules": {
            "vision": {"model": vision, "layout": {"ranks": ranks}, "optimizer": optimizer},
            "language": {
                "model": language, "optimizer": optimizer, "weight": 3,
                "layout": {"ranks": ranks, "pp": gpus, "chunks": chunks, "split": SPLITS[gpus * chunks]},
            },
        },
        "edges": [{"source": "vision", "target": "language"}],
        "schedule": {"microbatches": microbatches, **{k: v for k, v in setting.items() if k != "chunks"}},
        "data": {"train": [{"synthetic": synthetic}], "sequence_tokens": tokens},
        "training": {"steps": 100, "global_batch_samples": microbatches, "precision": precision},
    })  # fmt: skip
    return laid_out(config) if config.schedule.kind == "filled" else config


def measure(member: Member, configs: dict[str, Config], rounds: int) -> list[Any] | None:
    """Per rank and setting: seconds per step, busy seconds of a profiled step, bytes."""
    engines: dict[str, tuple[Engine, StepInputs, Any, int]] = {}
    for name, config in configs.items():
        plan, models, corpus = prepare_run(config)
        groups = member.groups(plan)
        before = _allocated()
        engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe,))
        reader = Reader(plan, member.world.rank, corpus.sources, getattr(torch, plan.dtype))
        inputs = reader.read(plan.batch(0, corpus.packs(0)))
        engine.train_step(inputs)
        engines[name] = engine, inputs, groups, _allocated() - before
    found: dict[str, dict[str, Any]] = {name: {"seconds": [], "held": e[3]} for name, e in engines.items()}
    for number in range(rounds + 1):
        for name, (engine, inputs, groups, _held) in engines.items():
            seconds, extra = _step(engine, inputs, groups)
            if number:
                found[name]["seconds"].append(seconds)
                found[name]["extra"] = extra
    for name, (engine, inputs, groups, _held) in engines.items():
        if torch.cuda.is_available():
            with profile(activities=[ProfilerActivity.CUDA]) as profiler:
                found[name]["profiled"], _extra = _step(engine, inputs, groups)
            found[name]["busy"] = _busy(profiler)
    for engine, _inputs, _groups, _held in engines.values():
        engine.close()
    assert groups.control is not None
    return groups.control.gather(found)


def _step(engine: Engine, inputs: StepInputs, groups: Any) -> tuple[float, int]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    groups.control.maximum(0)
    start, before = time.perf_counter(), _allocated()
    engine.train_step(inputs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0) - before


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _busy(profiler: Any) -> float:
    """Seconds in which at least one kernel other than NCCL's runs."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and "nccl" not in event.name.lower()
    )
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return busy / 1e6


def main() -> None:
    """Measure, and print beside what the clock says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int, choices=(2, 4), default=4)
    parser.add_argument("--settings", default=";".join(SETTINGS), help="separated by semicolons")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, to try the script")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = "cpu" if options.small else "cuda"
    configs = {
        name: config_of(SETTINGS[name], options.gpus, device, options.microbatches, options.small)
        for name in options.settings.split(";")
    }
    with Pool(options.gpus, device_type=device, timeout_seconds=500.0) as pool:
        ranks = pool.run(measure, configs, options.rounds)
    rows = []
    for name, config in configs.items():
        plan, _models, corpus = prepare_run(config)
        batch = plan.batch(0, corpus.packs(0))
        timeline = simulate(plan, batch, flop_costs(plan, batch))
        least = max(timeline.busy(rank) for rank in timeline.intervals)
        seconds = [max(rank[name]["seconds"][i] for rank in ranks) for i in range(options.rounds)]
        row = {
            "setting": name,
            "predicted": timeline.makespan / least,
            "predicted_bubble": timeline.bubble_fraction,
            "median_s": statistics.median(seconds),
            "spread_s": max(seconds) - min(seconds),
            "step_gib": max(rank[name]["extra"] for rank in ranks) / 2**30,
            "held_gib": max(rank[name]["held"] for rank in ranks) / 2**30,
        }
        if "busy" in ranks[0][name]:
            bubbles = [1 - rank[name]["busy"] / rank[name]["profiled"] for rank in ranks]
            row["bubble"] = sum(bubbles) / len(bubbles)
        rows.append(row)
    rows.sort(key=lambda row: row["predicted"])
    for row in rows:
        print(
            f"{row['setting']:<32} predicted {row['predicted']:.3f} (bubble {row['predicted_bubble']:.1%})  measured "
            f"{row['median_s']:.4f} s (spread {row['spread_s']:.4f}), bubble {row.get('bubble', 0.0):.1%}, step "
            f"{row['step_gib']:.2f} GiB over {row['held_gib']:.2f} GiB held"
        )
    if options.json is not None:
        options.json.write_text(
            json.dumps({"gpus": options.gpus, "microbatches": options.microbatches, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
