"""When layers are compiled."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.setup import run
from counterpoint.verify.command import as_verified

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"


@pytest.mark.parametrize(
    ("keys", "device", "expected"),
    [
        ((), "cuda", True),
        ((), "cpu", False),
        (("training.steps=200",), "cuda", True),
        (("training.steps=199",), "cuda", False),
        (("run.deterministic=true",), "cuda", False),
        (("training.compile=false",), "cuda", False),
        (("training.compile=true",), "cpu", True),
        (("training.compile=true", "training.steps=1", "run.deterministic=true"), "cuda", True),
    ],
)
def test_auto_is_for_long_runs_on_gpus(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], device: str, expected: bool
) -> None:
    monkeypatch.setattr(run, "device_type", lambda _config: device)
    assert run.is_compiled(load_config(TINY, ["training.steps=1000", *keys])) is expected


@pytest.mark.parametrize(("given", "verified"), [("auto", False), ("true", True), ("false", False)])
def test_verify_compiles_where_the_config_says_so(given: str, verified: bool) -> None:
    config = as_verified(load_config(TINY, [f"training.compile={given}"]), "float64")
    assert config.training.compile is verified
