"""Every fast path against float64 on the same device: attention, experts, the loss in pieces, compilation, bf16.

    python benchmarks/fast_paths.py --json FILE                # on GPUs: all parts at once, dealt to those there are
    python benchmarks/fast_paths.py --device cpu               # what a CPU has of it, small, one part after the other
    python benchmarks/fast_paths.py --parts attention loss     # some of it

Prints a row for each path and case: what, its shape, and values with the bounds that they are held to: relative
errors ||out - reference|| / ||reference|| of the output and of gradients, counts that are to be zero, compilations.
`fast/rows.py` says where the bounds come from. Each part is a process of its own, so a kernel that breaks one
leaves the others whole, and compilers work side by side; a part that does not end in time is a row that failed.
Exit code 3 if any row fails.

Layouts of several ranks are for `counterpoint verify CONFIG training.compile=true run.device=cuda --random N`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from fast import attention, layers, loss, mamba, moe, steps
from fast.rows import Row, device_of

Part = Callable[[torch.device], Iterator[Row]]

_DIMS = (64, 72, 80, 128)
_FLASH_DIMS = (64, 72, 80, 96, 128)

PARTS: dict[str, Part] = {
    # The longest first.
    "layers/bfloat16": partial(layers.rows, dtype=torch.bfloat16),
    "layers/float32": partial(layers.rows, dtype=torch.float32),
    "steps/bfloat16": steps.rows,
    "steps/float64": steps.verified,
    **{f"attention/flash_four_{dim}": partial(attention.rows_with_flash_four, dim=dim) for dim in _FLASH_DIMS},
    **{f"attention/torch_{dim}": partial(attention.rows_without_flash_four, dim=dim) for dim in _DIMS},
    "moe": moe.rows,
    "loss": loss.rows,
    "mamba": mamba.rows,
}
"""Parts that run apart, by name."""

_MARK = "row "
DIFFERS, WRONG_CALL = 3, 2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--parts", nargs="*", default=[""], help=f"beginnings of {', '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, help="parts at once: all on GPUs, 1 on a CPU unless given")
    parser.add_argument("--limit", type=float, default=None, help="seconds in all: 240 on GPUs, none on a CPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (wrong := fault(options)) is not None:
        sys.stderr.write(f"error: {wrong}\n")
        sys.exit(WRONG_CALL)
    return options


def names_of(options: argparse.Namespace) -> list[str]:
    """The parts that were asked for."""
    return [name for name in PARTS if any(name.startswith(wanted) for wanted in options.parts)]


def fault(options: argparse.Namespace) -> str | None:
    """What is wrong with the call, found before anything runs."""
    device, file = options.device.partition(":")[0], options.json
    if device not in ("cuda", "cpu"):
        return f"--device: got {options.device!r}, expected cuda or cpu; correct it"
    if device == "cuda" and not torch.cuda.is_available():
        return "--device: got 'cuda' on a machine without a usable GPU, expected one; give --device cpu"
    if not names_of(options):
        return f"--parts: got {' '.join(options.parts)}, expected beginnings of {', '.join(PARTS)}; correct one"
    if options.jobs is not None and options.jobs < 1:
        return f"--jobs: got {options.jobs}, expected at least 1; correct it"
    if file is not None and file.is_dir():
        return f"--json: {file} is a folder, expected a file; choose another"
    if file is not None and not file.parent.is_dir():
        return f"--json: {file} is in no folder that exists; make {file.parent} first"
    return None


class Comparison:
    """Parts in processes of their own, and the rows that they print."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rows: list[Row] = []
        self._device, self._json = options.device, options.json
        self._names = names_of(options)
        on_gpus = self._device == "cuda"
        self._gpus = torch.cuda.device_count() if on_gpus else 0
        self._jobs = options.jobs or (len(self._names) if on_gpus else 1)
        limit = options.limit if options.limit is not None or not on_gpus else 240.0
        self._end = None if limit is None else time.monotonic() + limit
        self._lock = threading.Lock()
        # Four parts compile at once, and each would start a worker for every core.
        workers = str(max(1, (os.cpu_count() or 1) // 4))
        self._environment = {"TORCHINDUCTOR_COMPILE_THREADS": workers} | os.environ

    def run(self) -> None:
        """Run all parts."""
        with ThreadPoolExecutor(self._jobs) as pool:
            list(pool.map(self._run, range(len(self._names)), self._names))

    def _run(self, number: int, name: str) -> None:
        device = f"cuda:{number % self._gpus}" if self._gpus else self._device
        command = [sys.executable, str(Path(__file__)), "--part", name, "--device", device]
        started = time.monotonic()
        with tempfile.TemporaryFile("w+") as noise:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=noise, text=True, env=self._environment)
            timer = None
            if self._end is not None:
                timer = threading.Timer(max(self._end - started, 0.0), child.kill)
                timer.start()
            assert child.stdout is not None, "a pipe was asked for"
            for line in child.stdout:
                if line.startswith(_MARK):
                    self._add(Row(**json.loads(line.removeprefix(_MARK))))
            code = child.wait()
            is_late = timer is not None and not timer.is_alive()
            if timer is not None:
                timer.cancel()
            noise.seek(0)
            said = noise.read()
        seconds = round(time.monotonic() - started, 1)
        if code:
            words = "did not end in time" if is_late and code < 0 else f"left with {code}: {said[-600:]}"
            self._add(Row(name, "", words=words, seconds=seconds))
        print(f"          {name}: {seconds:.0f} s on {device}", flush=True)

    def _add(self, row: Row) -> None:
        with self._lock:
            self.rows.append(row)
            print(row.text(), flush=True)
            if self._json is not None:
                self._json.write_text(json.dumps([row.record() for row in self.rows], indent=1))


def main() -> int:
    """Run one part, or all of them; returns the exit code."""
    options = arguments()
    if options.part is not None:
        for row in PARTS[options.part](device_of(options.device)):
            print(f"{_MARK}{json.dumps(row.fields())}", flush=True)
        return 0
    comparison = Comparison(options)
    comparison.run()
    rows = comparison.rows
    failed = [row for row in rows if row.status == "FAIL"]
    for row in failed:
        print(row.text())
    away = sum(row.is_left_out for row in rows)
    print(f"{len(rows) - len(failed) - away} rows hold, {len(failed)} fail, {away} left out")
    return DIFFERS if failed else 0


if __name__ == "__main__":
    sys.exit(main())
