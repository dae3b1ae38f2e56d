"""Runs tests of a copy of the repository in which one fault is planted; nothing of the tree at hand changes.

torch and what else is outside of the package is imported once: every run is a fork of the process that did so.
"""

import compileall
import importlib
import os
import py_compile
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutant import Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src/counterpoint")
PRELOADED = (
    "numpy", "torch", "torch.distributed", "torch.distributed.fsdp", "torch.distributed.checkpoint", "pydantic",
    "pyarrow", "tokenizers", "safetensors.torch", "PIL.Image", "hypothesis", "pytest", "typer", "rich.table",
    "transformers", "transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.qwen3_moe.modeling_qwen3_moe", "transformers.models.nemotron_h.modeling_nemotron_h",
    "transformers.models.clip.modeling_clip", "transformers.models.whisper.modeling_whisper",
)  # fmt: skip
CAUGHT, PASSED, TIMED_OUT, REFUSED = "caught", "passed", "timed out", "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How tests ended: `caught` by the test `by`, `passed` as if nothing were wrong, `timed out`, or `refused` where
    they cannot even be collected, which may say more of this script than of the fault."""

    outcome: str
    by: str
    seconds: float


class Tree:
    """A copy of the repository's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copyfile(ROOT / name, target)
        # By their hashes, because a fault may have the size of what it replaces and be planted in the same second.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(folder / "src", quiet=1, invalidation_mode=mode)

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The tree with a fault; raises StaleError if it has no place."""
        file = self.folder / PACKAGE / (mutant.module.replace(".", "/") + ".py")
        before = file.read_text()
        file.write_text(mutant.apply(before))
        try:
            yield
        finally:
            file.write_text(before)

    def run(self, tests: Sequence[str], seconds: float, log: Path, options: Sequence[str] = ()) -> Verdict:
        """Run tests up to the first that fails, for at most so many seconds of a processor."""
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._child(tests, seconds, log, options)
        status = _wait(child, 20 * seconds)
        words = log.read_text(errors="replace")
        passed = time.monotonic() - began
        found = re.search(r"^(?:FAILED|ERROR) (\S+::\S.*?)(?: - |$)", words, re.MULTILINE)
        if found is not None:
            return Verdict(CAUGHT, found[1], passed)
        if status is None or os.WIFSIGNALED(status):
            return Verdict(TIMED_OUT, "a hang", passed)
        code = os.waitstatus_to_exitcode(status)
        # Without tests that are collected nothing was asked.
        if code in (0, 5):
            return Verdict(PASSED, "", passed)
        refused = re.search(r"^E   .*", words, re.MULTILINE)
        return Verdict(REFUSED, words[-200:] if refused is None else refused[0], passed)

    def _child(self, tests: Sequence[str], seconds: float, log: Path, options: Sequence[str]) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
        out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 3
        try:
            os.chdir(self.folder)
            sys.dont_write_bytecode = True
            own = [str(self.folder / "src"), str(self.folder)]
            sys.path[:] = [*own, *_outside(sys.path)]
            os.environ["PYTHONPATH"] = ":".join([*own, *_outside(os.environ.get("PYTHONPATH", "").split(":"))])
            for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "counterpoint")]:
                del sys.modules[name]
            import pytest
            from hypothesis import Phase, settings

            # That it fails is asked, and not of which smallest example.
            settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], deadline=None)
            settings.load_profile("mutation")
            # Plugins that are imported already are none of ours.
            quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider", "--no-header"]
            code = int(pytest.main(["-x", "-q", *quiet, *options, *tests]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def preload() -> None:
    """Import what all runs need and no fault changes."""
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)


def _outside(paths: Sequence[str]) -> list[str]:
    """Places to import from that are none of this tree; what tests depend on may lie in any of them."""
    return [path for path in paths if path and Path(path) not in (ROOT, ROOT / "src")]


def _wait(child: int, seconds: float) -> int | None:
    """The status of a process that leads a group of its own, None after it had to be ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            _end_group(child)
            return status
        time.sleep(0.05)
    _end_group(child)
    os.waitpid(child, 0)
    return None


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
