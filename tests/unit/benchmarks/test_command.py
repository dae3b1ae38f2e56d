"""What the benchmark beside FSDP2 says to a wrong call: one sentence, before anything is built, and code 2."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "vlm.py"


def _alone() -> dict[str, str]:
    """What torchrun tells the only rank of a world."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _refused(environment: Mapping[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**os.environ, "BENCH_TINY": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    return ended.stderr


def test_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    said = _refused({}, "--settings", "colocated:4")
    assert said == (
        "error: RANK: got nothing in the environment, expected what torchrun sets; start it with torchrun\n"
    )


@pytest.mark.more
def test_a_wrong_setting() -> None:
    said = _refused(_alone(), "--settings", "colocatd:4")
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "--settings: got" in sentence
    assert "Traceback" not in said
