"""Reading during training: samples per second, what it costs the training's thread, stalls, and bytes read per job.

    python benchmarks/loading.py [--samples 256] [--workers 1 2 4 8] [--pairs 5] [--json FILE]

Pictures are JPEGs of 256 to 1024 pixels a side in a prepared folder; a step holds 32 of them, scaled to 448 pixels.

- `samples_per_second`: our reader with threads, with one process or four beside the rank, and a plain torch DataLoader
  with a process a worker that decodes the same bytes by the same functions. All take turns; numbers are medians.
- `launches_per_second`: small operations that the main thread launches (on the GPU where there is one) while steps are
  read: what is left of the rate of an undisturbed thread.
- `waits`: the longest and all waits for a step, in steps, with one sample that takes 5 steps to decode.
- `bytes_read`: bytes of payload that all ranks of a layout read in an epoch, as a multiple of the bytes of the payload.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.open import open_feed
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.reader import Loaded, Reader, Wanted
from counterpoint.data.feed.threads import Reading, ThreadFeed
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.plan.plan import Plan
from counterpoint.setup.run import prepare_run

SAMPLES_A_STEP = 32
SLOW_STEPS = 5
WORDS = ("a red boat", "near some old stone houses", "under trees", "in the evening light", "the picture shows")

LAYOUTS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "1 rank": (1, {"ranks": [0]}, {"ranks": [0]}),
    "dp8": (8, {"ranks": list(range(8))}, {"ranks": list(range(8))}),
    "dp4, language tp2": (8, {"ranks": list(range(8))}, {"ranks": list(range(8)), "tp": 2}),
    "vision tp2 x dp4": (8, {"ranks": list(range(8)), "tp": 2}, {"ranks": list(range(8)), "tp": 2}),
    "vision cp2 x dp4": (8, {"ranks": list(range(8)), "cp": 2}, {"ranks": list(range(8)), "tp": 2}),
    "vision pp2 x dp2, language apart": (8, {"ranks": [0, 1, 2, 3], "pp": 2}, {"ranks": [4, 5, 6, 7], "tp": 2}),
}
"""World, layouts of vision and of language."""


def write_pictures(folder: Path, samples: int) -> Path:
    """A prepared folder of conversations about JPEGs with the detail of photographs."""
    generator = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir()
    with (raw / "train.jsonl").open("w") as lines:
        for number in range(samples):
            height, width = generator.integers(256, 1025, 2).tolist()
            coarse = generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
            picture = np.clip(picture + generator.normal(0, 6, picture.shape).astype(np.int16), 0, 255)
            data = io.BytesIO()
            Image.fromarray(picture.astype(np.uint8)).save(data, "JPEG", quality=90)
            (raw / f"{number}.jpg").write_bytes(data.getvalue())
            answer = " ".join(generator.choice(WORDS, generator.integers(2, 20)))
            turns = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": answer}]
            lines.write(json.dumps({"image": f"{number}.jpg", "conversations": turns}) + "\n")
    prepare(str(raw), folder / "prepared", PrepareOptions(vocabulary=300))
    return folder / "prepared"


def config_of(folder: Path, layout: str = "1 rank") -> Config:
    """A small pair of models that reads the folder as a large one would."""
    world, vision, language = LAYOUTS[layout]
    optimizer = {"kind": "adamw", "lr": 1e-3}
    tower = {
        "kind": "vit", "layers": 2, "hidden": 64, "heads": 4, "ffn": 64, "patch": 14, "merge": 2,
        "image": {"size": 448, "max_patches": 1024}, "projector": {"kind": "mlp", "hidden": 64},
    }  # fmt: skip
    decoder = {
        "kind": "decoder", "pattern": "*-*-", "hidden": 64, "heads": 4, "kv_heads": 4, "ffn": 64, "vocab": 300,
        "tied": True,
    }  # fmt: skip
    return load_config(
        {
            "schema": 1, "run": {"dir": "unused", "device": "cpu"},
            "world": {"size": world, "partial_overlap": True},
            "modules": {
                "vision": {"model": tower, "layout": vision, "optimizer": optimizer},
                "language": {"model": decoder, "layout": language, "optimizer": optimizer},
            },
            "edges": [{"source": "vision", "target": "language"}],
            "schedule": {"kind": "1f1b", "microbatches": 2},
            "data": {"train": [{"path": str(folder)}], "sequence_tokens": 2048, "packing": True},
            "training": {"steps": 1000, "global_batch_samples": SAMPLES_A_STEP},
        }
    )  # fmt: skip


class Feeding:
    """Steps of a run as its rank 0 gets them."""

    def __init__(self, plan: Plan, corpus: Corpus, reading: Reading) -> None:
        reader = Reader(plan, 0, corpus.sources, torch.bfloat16, is_pinned=torch.cuda.is_available())
        self._feed = open_feed(reader, corpus, reading)
        self._steps = Prefetcher(
            lambda step: self._feed.submit(step, ()), 0, 10**9, reading.steps_ahead, self._feed.close
        )
        self._steps.next()

    def step(self) -> int:
        """Take one step; returns its samples."""
        return len(self._steps.next().batch.documents)

    def close(self) -> None:
        """Stop reading."""
        self._steps.close()


class Decoded(torch.utils.data.Dataset[torch.Tensor]):
    """The same pictures for a DataLoader: their rows, by the functions that our reader calls."""

    def __init__(self, corpus: Corpus) -> None:
        self._source = corpus.sources[0]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, number: int) -> torch.Tensor:
        payload: Any = self._source.item(number % len(self._source), 0)
        return torch.from_numpy(payload.patches).to(torch.bfloat16)


class Loading:
    """Steps of a plain DataLoader."""

    def __init__(self, corpus: Corpus, workers: int) -> None:
        self._steps = iter(
            torch.utils.data.DataLoader(
                Decoded(corpus), batch_size=SAMPLES_A_STEP, num_workers=workers, collate_fn=torch.cat,
                multiprocessing_context="spawn", pin_memory=torch.cuda.is_available(),
            )
        )  # fmt: skip
        next(self._steps)

    def step(self) -> int:
        """Take one step; returns its samples."""
        next(self._steps)
        return SAMPLES_A_STEP

    def close(self) -> None:
        """Stop its workers."""
        del self._steps


def ways_of(plan: Plan, corpus: Corpus, workers: int) -> Mapping[str, Callable[[], Feeding | Loading]]:
    """The ways to read, by name."""
    ahead = Reading(workers, steps_ahead=4)
    return {
        "threads": lambda: Feeding(plan, corpus, ahead),
        "process": lambda: Feeding(plan, corpus, replace(ahead, processes=1)),
        "processes": lambda: Feeding(plan, corpus, replace(ahead, processes=min(4, workers))),
        "dataloader": lambda: Loading(corpus, workers),
    }


def rate(way: Feeding | Loading, seconds: float) -> float:
    """Samples per second over about so many seconds."""
    samples, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        samples += way.step()
    return samples / (time.perf_counter() - begin)


def launches(seconds: float, step: Callable[[], object]) -> float:
    """Small operations a second that this thread launches; it takes a step ten times a second, as a training does."""
    tensor = torch.zeros(4, device="cuda" if torch.cuda.is_available() else "cpu")
    count, begin, spent = 0, time.perf_counter(), 0.0
    due = begin
    while (now := time.perf_counter()) - begin < seconds + spent:
        if now >= due:
            step()
            spent, due = spent + time.perf_counter() - now, time.perf_counter() + 0.1
        for _ in range(100):
            tensor.add_(1)
        count += 100
    return count / seconds


def measured(plan: Plan, corpus: Corpus, workers: int, pairs: int, seconds: float) -> dict[str, Any]:
    """Medians of alternating turns of all ways."""
    samples: dict[str, list[float]] = {}
    launched: dict[str, list[float]] = {}
    for _ in range(pairs):
        launched.setdefault("undisturbed", []).append(launches(seconds, lambda: None))
        for name, make in ways_of(plan, corpus, workers).items():
            way = make()
            try:
                samples.setdefault(name, []).append(rate(way, seconds))
                launched.setdefault(name, []).append(launches(seconds, way.step))
            finally:
                way.close()
    return {
        "workers": workers,
        "samples_per_second": {name: round(statistics.median(values), 1) for name, values in samples.items()},
        "launches_per_second": {name: round(statistics.median(values)) for name, values in launched.items()},
        "all_samples_per_second": {name: [round(value, 1) for value in values] for name, values in samples.items()},
        "all_launches_per_second": {name: [round(value) for value in values] for name, values in launched.items()},
    }


def waits(plan: Plan, corpus: Corpus, workers: int, steps_ahead: int, slow: bool) -> dict[str, float]:
    """The waits for steps, in steps, with a sample that takes SLOW_STEPS steps to decode if it is `slow`."""
    reader = Reader(plan, 0, corpus.sources, torch.bfloat16)
    batches = [plan.batch(step, corpus.packs(step)) for step in range(3)]
    begin = time.perf_counter()
    for batch in batches:
        reader.read(batch)
    step_seconds = 1.5 * (time.perf_counter() - begin) / len(batches)
    slow_step = 20
    chosen = next(reader.wanted(plan.batch(slow_step, corpus.packs(slow_step))))

    class Slow(Reader):
        def load(self, wanted: Wanted) -> Loaded:
            if slow and wanted == chosen:
                time.sleep(SLOW_STEPS * step_seconds)
            return super().load(wanted)

    feed = ThreadFeed(Slow(plan, 0, corpus.sources, torch.bfloat16), corpus, Reading(workers, steps_ahead))
    steps = Prefetcher(lambda step: feed.submit(step, ()), 0, 40, steps_ahead, feed.close)
    waited = []
    for _ in range(40):
        begin = time.perf_counter()
        steps.next()
        waited.append((time.perf_counter() - begin) / step_seconds)
        time.sleep(step_seconds)
    steps.close()
    # The first steps fill what is read ahead.
    return {"longest": round(max(waited[10:]), 2), "all": round(sum(waited[10:]), 2)}


def bytes_read(folder: Path, layout: str, samples: int) -> dict[str, Any]:
    """What the ranks of a layout read in one epoch."""
    plan, _models, corpus = prepare_run(config_of(folder, layout))
    source: Any = corpus.sources[0]
    times: Counter[tuple[int, int]] = Counter()
    for step in range(samples // SAMPLES_A_STEP):
        batch = plan.batch(step, corpus.packs(step))
        for rank in plan.placement.active:
            reader = Reader(plan, rank, corpus.sources, torch.bfloat16)
            times.update((wanted.document, wanted.which) for wanted in reader.wanted(batch))
    size = {(index, 0): sum(entry.lengths) for index in range(samples) for entry in source.index.items(index)}
    read = sum(size[item] * count for item, count in times.items())
    return {
        "layout": layout, "times_the_payload": round(read / sum(size.values()), 4),
        "items_read_twice": sum(count > 1 for count in times.values()), "items": len(size),
        "items_never_read": len(size.keys() - times.keys()),
    }  # fmt: skip


@contextmanager
def folder_of(samples: int) -> Iterator[Path]:
    """A prepared folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_pictures(Path(folder), samples)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256, help="pictures of the folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="threads, or processes")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each way")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    samples = given.samples // SAMPLES_A_STEP * SAMPLES_A_STEP
    with folder_of(samples) as folder:
        plan, _models, corpus = prepare_run(config_of(folder))
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        found: dict[str, Any] = {"cores": os.cpu_count(), "gpu": gpu, "samples_a_step": SAMPLES_A_STEP}
        found["bytes_read"] = [bytes_read(folder, layout, samples) for layout in LAYOUTS]
        found["waits"] = [
            {"steps_ahead": ahead, "workers": 2, "slow_sample_steps": SLOW_STEPS if slow else 0}
            | waits(plan, corpus, 2, ahead, slow)
            for ahead, slow in ((2, False), (2, True), (8, False), (8, True))
        ]
        found["ways"] = []
        for workers in given.workers:
            found["ways"].append(measured(plan, corpus, workers, given.pairs, given.seconds))
            print(json.dumps(found["ways"][-1]), flush=True)
    text = json.dumps(found, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
