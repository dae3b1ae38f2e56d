"""One module of a composite model, exported alone, is a folder that transformers loads as what it is."""

import json
from pathlib import Path

import pytest
import torch

from counterpoint.convert.composite import LANGUAGE, VISION, composite_of
from counterpoint.convert.folder import ModelFolder
from counterpoint.errors import CheckpointError
from counterpoint.setup.export import ExportRequest, prepare_export
from tests.unit.hub.runs import export_here, write_run
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.hub_folders import load_hub_folder, write_hub_folder
from tests.unit.judge.judge import REASON, read_all
from tests.unit.judge.whole_configs import config_of

pytest.importorskip("transformers", reason=REASON)


@pytest.mark.parametrize(
    ("family", "module", "kind"),
    [
        ("llava", VISION, "clip_vision_model"),
        pytest.param("llava", LANGUAGE, "llama", marks=pytest.mark.more),
        pytest.param("qwen2_5_vl", LANGUAGE, "qwen2", marks=pytest.mark.more),
        pytest.param("qwen2_5_vl", VISION, "qwen2_5_vl_vision", marks=pytest.mark.more),
        pytest.param("qwen3_vl", LANGUAGE, "qwen3", marks=pytest.mark.more),
        pytest.param("qwen3_vl", VISION, "qwen3_vl_vision", marks=pytest.mark.more),
        pytest.param("nemotron_h_omni with sound", LANGUAGE, "nemotron_h", marks=pytest.mark.more),
        pytest.param("nemotron_h_omni with sound", "audio", "parakeet_encoder", marks=pytest.mark.more),
    ],
)
def test_a_part_is_loaded_as_what_it_is(tmp_path: Path, family: str, module: str, kind: str) -> None:
    write_hub_folder(family, 0, "whole", tmp_path / "base")
    config, tensors = read_all(tmp_path / "base")
    whole = composite_of(config)
    ours = modules_to_ours(whole, tensors)
    run = write_run(config_of(whole, tmp_path / "base", {}), ours)
    out = export_here(ExportRequest(run=run, out=tmp_path / "out", module=module), processes=2)
    assert json.loads((out / "config.json").read_text())["model_type"] == kind
    load_hub_folder(kind, out)
    found = read_all(out)[1]
    alone = composite_of(ModelFolder(out).config)
    again = modules_to_ours(alone, found)[module]
    assert all(torch.equal(tensor, ours[module][name]) for name, tensor in again.items() if name in ours[module])
    carried = set(again) - set(ours[module])
    assert all(name.startswith("layers.") for name in carried), carried


@pytest.mark.more
def test_a_part_that_lacks_what_its_output_is_of_is_refused(tmp_path: Path) -> None:
    """The pixels' mean and deviation are no tensors of the composite model."""
    write_hub_folder("nemotron_h_omni with sound", 0, "whole", tmp_path / "base")
    config, tensors = read_all(tmp_path / "base")
    whole = composite_of(config)
    run = write_run(config_of(whole, tmp_path / "base", {}), modules_to_ours(whole, tensors))
    with pytest.raises(CheckpointError, match=r"has no \*input_conditioner\.\*, expected what a radio by itself has"):
        prepare_export(ExportRequest(run=run, out=tmp_path / "out", module=VISION), 1)
