"""Writes what the tree at hand computes: `python -m tests.golden.collect OUT [--like BASE] [--runs FOLDER]`.

The file is `{"inputs": ..., "goldens": {kind: {case: {name: value}}}}`; with `--like`, bad configs and the order of
keys are those of that file.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.golden.cases import LONG, in_one_process, shipped
from tests.golden.data import data_goldens, make_data
from tests.golden.errors import bad_texts, error_goldens
from tests.golden.hub import hub_goldens
from tests.golden.models import full_parameters
from tests.golden.plans import plan_goldens
from tests.golden.training import one_rank, resumed_goldens, training_goldens
from tests.golden.written import Golden

FEW_STEPS, MANY_STEPS = 3, 20
WORTH_A_LINE = 3.0
"""Seconds of what is said to have been collected."""

STORED = (*LONG, "examples/emoji")
"""The configs of which runs are stored."""


def main() -> None:
    """Collect everything in a folder of its own and write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.collect", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path, help="another tree's file, whose bad configs and order of keys are taken")
    parser.add_argument("--runs", type=Path, help="where stored runs and their data lie, or are written the first time")
    options = parser.parse_args()
    out = options.out.absolute()
    runs = None if options.runs is None else options.runs.absolute()
    like = None if options.like is None else json.loads(options.like.read_text())
    texts = bad_texts() if like is None else like["inputs"]["bad configs"]
    sections = {} if like is None else like["goldens"]["read sections"]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        os.chdir(folder)
        goldens = collect(texts, Path(folder, "stored") if runs is None else runs, sections)
        os.chdir("/")
    out.write_text(json.dumps({"inputs": {"bad configs": texts}, "goldens": goldens}))


def collect(texts: dict[str, Any], runs: Path, sections: dict[str, Golden]) -> dict[str, Golden]:
    """All goldens, in the working folder; runs are resumed in `runs`, where those of another tree may lie.

    Of `texts` errors are made, and `sections` are what another tree reads in checkpoints, if there is one.
    """
    found: dict[str, Golden] = {}

    def add(case: str, kinds: dict[str, Golden]) -> None:
        for kind, golden in kinds.items():
            found.setdefault(kind, {})[case] = golden

    _timed("data", make_data)
    found["prepared data"] = data_goldens()
    configs = shipped()
    for name, config in configs.items():
        add(name, _timed(f"plan of {name}", partial(plan_goldens, config)))
        add(name, full_parameters(config))
    trained = in_one_process(configs)
    found["trained as"] = {first: {"names": sorted(names)} for first, (_config, names) in trained.items()}
    with one_rank() as member:
        for name, (config, _names) in trained.items():
            steps = MANY_STEPS if name in LONG else FEW_STEPS
            add(name, _timed(name, partial(training_goldens, member, config, steps)))
        if not (runs / "data").exists():
            shutil.copytree("data", runs / "data")
        working = Path.cwd()
        os.chdir(runs)
        for name in STORED:
            config, _names = trained[name]
            add(name, _timed(f"resumed {name}", partial(resumed_goldens, member, config, runs / name)))
        os.chdir(working)
    found["errors"] = _timed("errors", partial(error_goldens, texts))
    found |= _timed("hub", partial(hub_goldens, sections))
    return found


def _timed(what: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    if seconds >= WORTH_A_LINE:
        sys.stderr.write(f"{seconds:6.1f} s  {what}\n")
    return result


if __name__ == "__main__":
    main()
