"""`counterpoint prepare` with one process and with several: seconds, bytes and memory; and how fast an index opens.

    python benchmarks/prepare.py FOLDER [--records 100000] [--files 100000] [--workers 2] [--pairs 3] [--json FILE]

Writes records of a picture, a question and an answer, and the pictures (JPEG, in folders of 1,000), once; FOLDER is
kept if it holds them already. Then prepares them with 1 and with --workers processes in turn, each time anew, as a
command of its own, with a tokenizer that was trained before. Peak memory is the largest resident set of a process.
Opening is the index alone, and the source that a run reads.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from counterpoint.data.text.tokenizer import train_tokenizer

PER_FOLDER = 1000
SIDE = 64
MIB = 2**20
WORDS = ("red", "green", "blue", "square", "circle", "of", "a", "large", "small", "left", "right", "above", "is", "the")


def main() -> None:
    """Measure and print, and write the figures where --json says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--open", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        sys.stdout.write(json.dumps(_opened(given.folder)))
        return
    source: Path = given.folder / "source"
    if not source.exists():
        _write(source, given.records, given.files)
    runs: list[dict[str, Any]] = []
    for pair in range(given.pairs):
        order = (1, given.workers) if pair % 2 == 0 else (given.workers, 1)
        runs += [_prepared(given.folder, workers) for workers in order]
    seconds = {n: statistics.median(run["seconds"] for run in runs if run["workers"] == n) for n in (1, given.workers)}
    opened = subprocess.run([sys.executable, __file__, str(given.folder), "--open"], check=True, capture_output=True)
    results = {
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "load_average": os.getloadavg()[0],
        "records": given.records,
        "files": given.files,
        "median_seconds": seconds,
        "times_as_fast": round(seconds[1] / seconds[given.workers], 2),
        "samples_per_second_and_process": round(given.records / seconds[1]),
        "open": json.loads(opened.stdout),
        "runs": runs,
    }
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


def _write(source: Path, records: int, files: int) -> None:
    partial = source.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(files):
        path = partial / _name(number)
        path.parent.mkdir(exist_ok=True, parents=True)
        small = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((SIDE, SIDE)).save(path, quality=80)
    with (partial / "train.jsonl").open("w") as lines:
        for number in range(records):
            asked, said = (" ".join(draw.choice(WORDS, count)) for count in (12, 24))
            turns = [{"from": "human", "value": f"<image>\n{asked}?"}, {"from": "gpt", "value": said}]
            record = {"id": str(number), "image": _name(number % files), "conversations": turns}
            lines.write(json.dumps(record) + "\n")
    train_tokenizer(WORDS, 400, partial.parent / "tokenizer.json")
    partial.rename(source)


def _name(number: int) -> str:
    return f"images/{number // PER_FOLDER:05}/{number:07}.jpg"


def _prepared(folder: Path, workers: int) -> dict[str, Any]:
    """One preparation as a command."""
    out = folder / "index"
    shutil.rmtree(out, ignore_errors=True)
    command = ["-m", "counterpoint.cli", "prepare", str(folder / "source"), str(out), "--workers", str(workers)]
    code = (
        "import json, resource, sys\nfrom counterpoint.cli import app\n"
        f"sys.argv = {['counterpoint', *command[2:], '--tokenizer', str(folder / 'tokenizer.json')]!r}\n"
        "app(standalone_mode=False)\n"
        "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "sys.stderr.write(json.dumps([[each.ru_maxrss, each.ru_utime + each.ru_stime] for each in used]))\n"
    )
    begun = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    (main_peak, main_cpu), (worker_peak, workers_cpu) = json.loads(ended.stderr)
    return {
        "workers": workers,
        "seconds": round(seconds, 2),
        "cpu_seconds": {"main": round(main_cpu, 2), "workers": round(workers_cpu, 2)},
        "peak_mib": {"main": round(main_peak / 1024), "largest worker": round(worker_peak / 1024)},
        "index_mib": round(sum(path.stat().st_size for path in out.iterdir()) / MIB, 1),
    }


def _opened(folder: Path) -> dict[str, float]:
    """Seconds to open the index, and the source of a run; read and compiled modules are not counted."""
    from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
    from counterpoint.sources.prepared.index import Index
    from counterpoint.sources.prepared.source import PreparedSource

    begun = time.perf_counter()
    Index(folder / "index")
    middle = time.perf_counter()
    intake = ImageIntake("vision", ImageConfig(size=SIDE, max_patches=16), patch=16)
    source = PreparedSource(folder / "index", "train", 0, {"vision": intake}, 512)
    source.document(0)
    return {
        "index_seconds": round(middle - begun, 3),
        "source_seconds": round(time.perf_counter() - middle, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
