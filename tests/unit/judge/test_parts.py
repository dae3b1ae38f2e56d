"""One module of a composite model, exported alone, is a folder that transformers loads as what it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from counterpoint.convert import radio_args
from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, composite_of
from counterpoint.convert.folder import ModelFolder
from counterpoint.errors import CheckpointError
from counterpoint.setup.export import ExportRequest, prepare_export
from tests.unit.convert.test_published import ARGS, RADIO
from tests.unit.hub.runs import export_here, write_run
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.hub_folders import class_of, config_in, described, load_hub_folder, write_hub_folder
from tests.unit.judge.hub_judge import whole_of
from tests.unit.judge.judge import REASON, quiet, read_all
from tests.unit.judge.models import Config
from tests.unit.judge.whole_configs import config_of
from tests.unit.judge.wholes import HEARING

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


def _kind_of_the_whole(config: Config) -> None:
    """As the hub has Qwen-VL: the tower's section repeats the kind of the whole model."""
    config["vision_config"]["model_type"] = config["model_type"]


def _names_of_the_authors(config: Config) -> None:
    """As the hub has Nemotron-Omni."""
    for today, older in (("text_config", "llm_config"), ("audio_config", "sound_config")):
        config[older] = config.pop(today)
    config["sound_config"]["model_type"] = "parakeet"
    config["vision_config"].pop("model_type")
    config["model_type"] = "NemotronH_Nano_Omni_Reasoning_V3"


_OMNI = "nemotron_h_omni with sound"


@pytest.mark.parametrize(
    ("family", "form", "change", "module", "kind"),
    [
        (_OMNI, "dropped", _names_of_the_authors, AUDIO, "parakeet_encoder"),
        pytest.param(_OMNI, "dropped", _names_of_the_authors, LANGUAGE, "nemotron_h", marks=pytest.mark.more),
        pytest.param(_OMNI, "memory", dict, LANGUAGE, "nemotron_h", marks=pytest.mark.more),
        pytest.param("qwen2_5_vl", "whole", _kind_of_the_whole, VISION, "qwen2_5_vl_vision", marks=pytest.mark.more),
        pytest.param("qwen3_vl", "whole", _kind_of_the_whole, VISION, "qwen3_vl_vision", marks=pytest.mark.more),
    ],
)
def test_a_part_of_another_spelling_is_loaded_as_what_it_is(
    tmp_path: Path, family: str, form: str, change: Callable[[Config], object], module: str, kind: str
) -> None:
    """With other names of sections and kinds, experts in one tensor, and tensors that only the whole model ignores."""
    write_hub_folder(family, 1, form, tmp_path / "base")
    config = config_in(tmp_path / "base")
    change(config)
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    _assert_part(tmp_path, module, kind)


def test_a_tower_that_is_published_without_sizes_is_described_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers knows no `args`; this base has the conditioner that its own Omni lacks."""
    known: Any = radio_args._MODELS
    monkeypatch.setitem(known, ARGS["model"], radio_args.Sizes(hidden=16, layers=2, heads=2))
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "max_img_size": 80,
        "num_cls_tokens": 4, "num_registers": 6, "summary_idxs": [0, 1, 2], "video_temporal_patch_size": 2,
    }  # fmt: skip
    config = {**HEARING, "vision_config": {"model_type": "radio", **sizes}}
    quiet()
    base = tmp_path / "base"
    class_of(_OMNI, config)(described(config)).double().save_pretrained(base)
    conditioner = "vision_model.radio_model.input_conditioner"
    more = {f"{conditioner}.{name}": torch.ones(3, 1, 1, dtype=torch.float64) for name in ("norm_mean", "norm_std")}
    save_file({**read_all(base)[1], **more}, base / "model.safetensors", metadata={"format": "pt"})
    films = {"separate_video_embedder": True, "video_temporal_patch_size": 2}
    tower = {**RADIO, **films, "args": {**ARGS, "cpe_max_size": 80}}
    (base / "config.json").write_text(json.dumps({**config_in(base), "vision_config": tower}))
    assert sizes.items() <= config_in(_assert_part(tmp_path, VISION, "radio")).items()


def _assert_part(scratch: Path, module: str, kind: str) -> Path:
    """Export a module of the folder `base`, whose values its run has; all of them are what transformers loads."""
    whole = whole_of(scratch / "base")
    ours = modules_to_ours(whole, read_all(scratch / "base")[1])
    run = write_run(config_of(whole, scratch / "base", {}), ours)
    out = export_here(ExportRequest(run=run, out=scratch / "out", module=module), processes=2)
    load_hub_folder(kind, out)
    again = modules_to_ours(whole_of(out), read_all(out)[1])[module]
    assert again.keys() == {name for name in ours[module] if not name.startswith("projector.") or name in again}
    assert all(torch.equal(tensor, ours[module][name]) for name, tensor in again.items())
    return out


@pytest.mark.more
def test_a_part_that_lacks_what_its_output_is_of_is_refused(tmp_path: Path) -> None:
    """The pixels' mean and deviation are no tensors of the composite model."""
    write_hub_folder("nemotron_h_omni with sound", 0, "whole", tmp_path / "base")
    config, tensors = read_all(tmp_path / "base")
    whole = composite_of(config)
    run = write_run(config_of(whole, tmp_path / "base", {}), modules_to_ours(whole, tensors))
    with pytest.raises(CheckpointError, match=r"has no \*input_conditioner\.\*, expected what a radio by itself has"):
        prepare_export(ExportRequest(run=run, out=tmp_path / "out", module=VISION), 1)
