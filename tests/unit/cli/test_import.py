"""`counterpoint import` as a user meets it: folders that transformers saved, config.json alone, and wrong input."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from counterpoint.api import import_model
from counterpoint.config.load import load_config
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.convert.composite import LANGUAGE, composite_of
from counterpoint.convert.defaults import read_defaults
from counterpoint.convert.processor import CLIP_MEAN, CLIP_STD
from counterpoint.errors import InputError
from counterpoint.families import family_of
from counterpoint.setup.plan import models_of
from tests.unit.cli.conftest import Command
from tests.unit.judge.folders import write_folder
from tests.unit.judge.hub_folders import FAMILIES, VARIANTS, write_hub_folder
from tests.unit.judge.models import CONFIGS, Config
from tests.unit.judge.test_sizes import said
from tests.unit.judge.whole_configs import FOLDERS
from tests.unit.reference.test_json_schema import validator

PUBLISHED = sorted((Path(__file__).parent.parent / "judge" / "published").glob("*.json"))
CASES: dict[str, Config] = {
    **FOLDERS, **CONFIGS, **{path.stem: json.loads(path.read_text()) for path in PUBLISHED},
}  # fmt: skip
IN_SUITE = (("qwen3_vl", "published"), ("nemotron_h_omni with sound", "shards"))
ALONE_IN_SUITE = ("qwen2_5_vl_flat", "siglip_sections_empty", "qwen3_vl", "qwen3_vl's tower", "whisper", "gemma3")
LLAMA: Config = {
    "model_type": "llama", "vocab_size": 30, "hidden_size": 16, "intermediate_size": 12, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip


def whole_run(text: str, taps: tuple[int, ...] = ()) -> dict[str, Any]:
    """What was written, with a language model where it is a part of a run."""
    data: dict[str, Any] = parse_yaml(text)
    if LANGUAGE in data["modules"]:
        return data
    (name,) = data["modules"]
    depths = [{"after": layer, "into": number} for number, layer in enumerate(taps)]
    words = {"kind": "decoder", "pattern": "*-*-", "hidden": 24, "heads": 2, "ffn": 8, "vocab": 30}
    data["modules"][LANGUAGE] = {"model": words, "layout": {"ranks": [0]}, "optimizer": {"lr": 1e-3}}
    return data | {
        "run": {"dir": "unused"},
        "world": {"size": 1},
        "edges": [{"source": name, "target": LANGUAGE, "depths": depths}],
        "data": {"train": [{"synthetic": {"documents": 9, "text_tokens": {"kind": "constant", "value": 9}}}],
                 "sequence_tokens": 64},
        "training": {"steps": 1, "global_batch_samples": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALONE_IN_SUITE else [pytest.mark.more]) for name in CASES]
)
def test_a_config_alone_becomes_a_run_with_its_sizes(name: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CASES[name]))
    imported, whole = import_model(file, world_size=2), composite_of(CASES[name])
    taps = next(iter(whole.modules.values())).model.ends.taps
    data = whole_run(imported.text, taps)
    assert imported.is_whole == (LANGUAGE in whole.modules)
    assert [str(error) for error in validator().iter_errors(data)] == []
    config = load_config(data)
    models = models_of(config, vocab=None)
    for module, stored in whole.modules.items():
        ours, theirs = said(models[module], stored), said(stored.model, stored)
        # How files enter is not compared, nor what nothing reads, nor the width of a language model that is not there.
        without = {"audio", *family_of(stored.model.section).idle(stored.model.section)}
        without |= set() if LANGUAGE in whole.modules else {"leaving"}
        assert {k: v for k, v in ours.items() if k not in without} == {
            k: v for k, v in theirs.items() if k not in without
        }, module
        assert config.modules[module].init_from is None
    if imported.is_whole:
        depths = [(depth.after, depth.into) for edge in config.edges for depth in edge.depths]
        assert tuple(depths) == whole.depths


FORMS = [(family, variant) for family in FAMILIES for variant in VARIANTS]


@pytest.mark.parametrize(
    ("family", "variant"),
    [pytest.param(*form, marks=[] if form in IN_SUITE else [pytest.mark.more]) for form in FORMS],
)
def test_a_folder_that_transformers_saved_becomes_a_run(family: str, variant: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_hub_folder(family, 1, variant, folder)
    imported = import_model(folder, world_size=2)
    assert all("init_from" in module for module in parse_yaml(imported.text)["modules"].values())
    said_of_files = next(line for line in imported.summary if line.startswith("  in the files: "))
    total = int(said_of_files.split(": ")[1].split()[0].replace(",", ""))
    assert total == sum(_numbers(imported.summary))
    assert not any("the index states" in line for line in imported.summary)


def _numbers(summary: tuple[str, ...]) -> list[int]:
    """Parameters of modules, and of what is not read."""
    lines = [line for line in summary if " layers, " in line or line.startswith("  not read: ")]
    return [int(line.split(" parameters")[0].rsplit(" ", 1)[1].replace(",", "")) for line in lines]


def test_what_an_index_states_wrongly_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", LLAMA, shards=2)
    index = tmp_path / "model" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "metadata": {"total_size": 17, "total_parameters": 10**6}}))
    summary = "\n".join(import_model(tmp_path / "model").summary)
    assert "the index states 17 bytes, the files hold " in summary
    assert "the index states 1,000,000 parameters, " in summary


def test_the_file_is_written_once(counterpoint: Command, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", LLAMA)
    out = tmp_path / "run.yaml"
    ended = counterpoint("import", tmp_path / "model", "--out", out, "--world-size", "2")
    assert (ended.code, ended.err) == (0, "")
    assert f"{out}: written; next: counterpoint train {out}" in ended.out
    assert "language: a decoder, 4 layers, " in ended.out
    written = out.read_text()
    assert parse_yaml(written)["modules"]["language"]["init_from"] == str(tmp_path / "model")
    again = counterpoint("import", tmp_path / "model", "--out", out)
    assert (again.code, out.read_text()) == (2, written)
    assert "already exists, expected a new file" in again.err
    assert counterpoint("import", tmp_path / "model", "--out", out, "--force").code == 0
    assert out.read_text() != written
    piped = counterpoint("import", tmp_path / "model")
    assert piped.out == out.read_text()
    assert "language: a decoder" in piped.err


def test_a_written_run_is_planned(counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "model", LLAMA)
    assert counterpoint("import", "model", "--out", "run.yaml", "--world-size", "2").code == 0
    planned = counterpoint("plan", "run.yaml")
    assert planned.code == 0, planned.err
    assert "proved: " in planned.out


def test_more_parameters_than_ranks_hold_are_said() -> None:
    (llama,) = (path for path in PUBLISHED if path.stem == "llama3_rope")
    one, many = (import_model(llama, world_size=ranks, memory_gib=16.0) for ranks in (2, 16))
    assert any("That does not fit: use 10 ranks or more" in line for line in one.summary)
    assert not any("does not fit" in line for line in many.summary)
    assert parse_yaml(many.text)["modules"]["language"]["layout"]["reshard"] is True


def _config(folder: Path, **keys: Any) -> object:
    return (folder / "config.json").write_text(json.dumps({**LLAMA, **keys}))


def _text(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(content)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty folder": (lambda folder: None, "has no config.json, expected a model's folder; choose the folder"),
    "an adapter": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"), "its adapter_config.json is of an adapter",
    ),
    "no JSON": (_text("{"), "expected JSON"),
    "no text": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "expected JSON"),
    "deep": (_text("[" * 100_000), "expected JSON"),
    "a list": (_text("[]"), "holds no object"),
    "no kind": (_text("{}"), "has no model_type"),
    "a kind of another type": (lambda folder: _config(folder, model_type=3), "says model_type: 3"),
    "an unknown kind": (lambda folder: _config(folder, model_type="lama"), "(did you mean llama?)"),
    "its own code": (
        lambda folder: _config(folder, model_type="mymodel", auto_map={"AutoModel": "code.Model"}),
        "own code, named in auto_map, is never executed",
    ),
    "a huge number": (_text('{"model_type": "llama", "hidden_size": 1' + "0" * 400 + "}"), "says hidden_size"),
    "a number beyond Python's": (_text('{"model_type": "llama", "hidden_size": ' + "9" * 9999 + "}"), "expected JSON"),
    "not a number": (_text('{"model_type": "llama", "rms_norm_eps": NaN}'), "says rms_norm_eps: nan"),
    "infinite": (_text('{"model_type": "llama", "rms_norm_eps": Infinity}'), "says rms_norm_eps: inf"),
    "an unknown key": (lambda folder: _config(folder, softcap=30.0), "says softcap: 30.0, of which nothing is known"),
    "quantized": (
        lambda folder: _config(folder, quantization_config={"quant_method": "fp8"}), "says quantization_config",
    ),
    "another dtype": (lambda folder: _config(folder, dtype="float8_e4m3fn"), "says dtype: float8_e4m3fn"),
    "older": (
        _text('{"model_type": "whisper", "transformers_version": "4.30.2"}'),
        "has no d_model, whose default was 256 when transformers 4.30.2 wrote it and is 384 since 4.36",
    ),
    "pickled weights": (
        lambda folder: (_config(folder), (folder / "pytorch_model.bin").write_bytes(b"x")), "pickled weights",
    ),
    "damaged weights": (
        lambda folder: (_config(folder), (folder / "model.safetensors").write_bytes(b"x")),
        "expected a safetensors file",
    ),
    "a broken processor": (
        lambda folder: (
            (folder / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"])),
            (folder / "preprocessor_config.json").write_text("{"),
        ),
        "preprocessor_config.json: cannot be read",
    ),
    "an unknown key of a processor": (
        lambda folder: (
            (folder / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"])),
            (folder / "preprocessor_config.json").write_text(
                json.dumps({"image_processor_type": "SiglipImageProcessor", "do_flip_channel_order": True})
            ),
        ),
        "says do_flip_channel_order: True, of which nothing is known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(name: str, counterpoint: Command, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    WRONG[name][0](folder)
    ended = counterpoint("import", folder, "--out", tmp_path / "run.yaml")
    assert ended.code == 2, ended.err
    assert WRONG[name][1] in ended.err.replace("\n", " ")
    assert ended.err.count("error: ") == 1
    assert not (tmp_path / "run.yaml").exists()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        import_model(tmp_path / "nothing")
    with pytest.raises(InputError, match="world_size: got 0, expected 1 to 100000"):
        import_model(tmp_path, world_size=0)
    for memory in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="expected a rank or more, with memory"):
            import_model(tmp_path, memory_gib=memory)


@pytest.mark.parametrize("memory", [1e-300, 1e-9, 1e-6])
def test_memory_that_holds_nothing_is_said(memory: float, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", CONFIGS["llama"])
    summary = " ".join(import_model(tmp_path / "model", memory_gib=memory).summary)
    assert re.search(r"does not fit: use \d+ ranks or more", summary)


UNCHANGED = {
    # Our reader makes colours of every picture; the type with another ending is the same processor.
    kind: {"do_convert_rgb", "image_processor_type"}
    for kind in read_defaults().processors
}
UNCHANGED["ConvNextImageProcessor"] |= {"crop_pct"}  # it has an effect below 384 pixels


@pytest.mark.parametrize("kind", sorted(one for one in read_defaults().processors if "Image" in one))
def test_each_key_of_a_processor_changes_the_run_or_is_refused(kind: str, tmp_path: Path) -> None:
    keys = {**read_defaults().processors[kind]}
    tower = {"Qwen2VLImageProcessor": CASES["qwen2_5_vl's tower"], "CLIPImageProcessor": CASES["clip"]}
    config = {**tower.get(kind, CASES["siglip_sections_empty"])}
    if kind == "Qwen2VLImageProcessor":
        config |= {"patch_size": 14, "window_size": 56}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def image(changed: dict[str, Any]) -> Any:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(changed))
        try:
            # With its comment, which says what the processor does otherwise.
            return import_model(tmp_path).text
        except InputError:
            return None

    first = image(keys)
    assert first is not None
    same = {key for key, value in keys.items() if image({**keys, key: _other(value)}) == first}
    assert same <= UNCHANGED[kind]


def _other(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case dict():
            return {key: one // 2 for key, one in value.items()}
        case list():
            return [one / 2 for one in value]
        case str():
            return f"{value}Fast"
        case _:
            return value - 1 if isinstance(value, int) else value / 2


def _stretch(side: int) -> dict[str, Any]:
    return {"kind": "stretch", "height": side, "width": side}


def _crop(side: int, edge: int | None) -> dict[str, Any]:
    return {"kind": "crop", "edge": edge, "height": side, "width": side}


def _budget(least: int, most: int) -> dict[str, Any]:
    return {"kind": "budget", "min_pixels": least, "max_pixels": most}


_SQUARE_336 = {"crop_size": {"height": 336, "width": 336}, "size": {"shortest_edge": 336}}
_NOT_CUT = {"do_center_crop": False}
SIZES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a fixed size": ("SiglipImageProcessor", {"size": {"height": 384, "width": 384}}, {"resize": _stretch(384)}),
    "its default": (
        "SiglipImageProcessorFast", {"image_mean": [0.1, 0.2, 0.3]}, {"resize": _stretch(224), "mean": [0.1, 0.2, 0.3]},
    ),
    "a crop": ("CLIPImageProcessor", _SQUARE_336, {"resize": _crop(336, 336)}),
    "a crop of numbers": (
        "CLIPFeatureExtractor", {"crop_size": 224, "size": 256, "resample": 2},
        {"resize": _crop(224, 256), "resampling": "bilinear"},
    ),
    "a crop alone": ("CLIPImageProcessor", {**_SQUARE_336, "do_resize": False}, {"resize": _crop(336, None)}),
    "no crop": ("CLIPImageProcessor", {**_SQUARE_336, **_NOT_CUT}, {"resize": {"kind": "shortest", "edge": 336}}),
    "neither": (
        "CLIPImageProcessor", {**_SQUARE_336, **_NOT_CUT, "do_resize": False}, {"resize": None, "max_patches": 882},
    ),
    "a number for a square": (
        "CLIPImageProcessor", {"size": 224, "default_to_square": True, **_NOT_CUT}, {"resize": _stretch(224)},
    ),
    "a square": (
        "LlavaImageProcessor", {**_SQUARE_336, "do_pad": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
        {"resize": {"kind": "pad", "side": 336, "colour": [122, 116, 104]}},
    ),
    "NaFlex": (
        "Siglip2ImageProcessor", {"max_num_patches": 100},
        {"resize": {"kind": "naflex", "max_patches": 100}, "resampling": "bilinear"},
    ),
    "one limit": ("Qwen2VLImageProcessor", {"max_pixels": 256 * 100}, {"resize": _budget(3136, 25600)}),
    "both limits": (
        "Qwen2VLImageProcessorFast", {"size": {"longest_edge": 256 * 50, "shortest_edge": 1}},
        {"resize": _budget(1, 12800)},
    ),
    "older limits": (
        "Qwen2VLImageProcessor", {"size": {"max_pixels": 25600, "min_pixels": 3136}}, {"resize": _budget(3136, 25600)},
    ),
    "limits without a type": (
        "", {"min_pixels": 256, "max_pixels": 25600, "image_mean": 0.5, "image_std": 0.5},
        {"resize": _budget(256, 25600)},
    ),
    "ConvNeXt's crop": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, {"resize": _crop(224, 256)}),
    "ConvNeXt's default": ("ConvNextImageProcessor", {}, {"resize": _stretch(384)}),
    "patches": (
        "NemotronH_Omni_Reasoning_V3ImageProcessor", {"min_num_patches": 16, "max_num_patches": 1000},
        {"resize": {"kind": "between", "min_patches": 16, "max_patches": 1000}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_pictures_are_the_processors(name: str, tmp_path: Path) -> None:
    kind, keys, expected = SIZES[name]
    (tmp_path / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"]))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **keys}))
    image = parse_yaml(import_model(tmp_path).text)["modules"]["vision"]["model"]["image"]
    assert {key: image.get(key) for key in expected} == expected


UNKNOWN_SIZES: dict[str, tuple[str, dict[str, Any], str]] = {
    "two edges": ("CLIPImageProcessor", {"size": {"shortest_edge": 224, "longest_edge": 400}}, "a shortest_edge alone"),
    "an edge that is longest": ("CLIPImageProcessor", {"size": {"longest_edge": 1024}}, "a shortest_edge alone"),
    "one limit": ("Qwen2VLImageProcessor", {"size": {"longest_edge": 1024}}, "shortest_edge and longest_edge"),
    "a negative size": ("SiglipImageProcessor", {"size": {"height": -1, "width": 8}}, "height and width"),
    "a size of text": ("SiglipImageProcessor", {"size": "224"}, "height and width"),
    "a crop of a stretch": ("CLIPImageProcessor", {"size": {"height": 300, "width": 300}}, "says crop_size"),
    "padding at the end": ("CLIPImageProcessor", {"do_pad": True}, "says do_pad: True, but only false"),
    "a share of nothing": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0}, "says crop_pct"),
    "pan and scan": ("Gemma3ImageProcessor", {"do_pan_and_scan": True}, "cuts a picture into tiles (do_pan_and_scan)"),
    "dynamic tiles": ("GotOcr2ImageProcessorFast", {"crop_to_patches": True}, "tiles (crop_to_patches)"),
    "image splitting": ("Idefics2ImageProcessor", {"do_image_splitting": True}, "tiles (do_image_splitting)"),
    "image splitting by default": ("Idefics3ImageProcessor", {}, "Idefics3ImageProcessor cuts a picture into tiles,"),
    "any resolution": (
        "LlavaNextImageProcessor", {"image_grid_pinpoints": [[336, 672]]}, "tiles (image_grid_pinpoints)",
    ),
    "any resolution by default": ("LlavaOnevisionImageProcessor", {}, "cuts a picture into tiles,"),
    "tiles of a custom processor": ("NemotronNanoVLImageProcessor", {"max_num_tiles": 12}, "tiles (max_num_tiles)"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN_SIZES)
def test_sizes_without_a_rule_are_refused_by_name(name: str, tmp_path: Path) -> None:
    kind, keys, expected = UNKNOWN_SIZES[name]
    (tmp_path / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"]))
    means = {"image_mean": 0.5, "image_std": 0.5}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **means, **keys}))
    with pytest.raises(InputError, match=re.escape(expected)) as raised:
        import_model(tmp_path)
    assert str(raised.value).count(": choose a") == 1


VIDEOS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "Qwen2.5-VL": (
        {"video_processor_type": "Qwen2VLVideoProcessor"}, _budget(100352, 602112), "pictures differ in time alone",
    ),
    "Qwen3-VL": (
        {"video_processor_type": "Qwen3VLVideoProcessor", "size": {"shortest_edge": 4096, "longest_edge": 25165824}},
        {"kind": "total", "min_pixels": 4096, "max_pixels": 25165824}, "",
    ),
    "a cap": (
        {"video_processor_type": "Qwen3VLVideoProcessor", "cap_pixels_per_frame": True, "max_video_tokens": 640},
        {"kind": "total", "min_pixels": 131072, "max_pixels": 786432, "picture_pixels": 655360}, "",
    ),
    "a cap by context": (
        {"video_processor_type": "Qwen2VLVideoProcessor", "cap_pixels_per_frame": True},
        {**_budget(100352, 602112), "video_pixels": 90316800}, "",
    ),
    "the same as of pictures": (
        {"video_processor_type": "Qwen2VLVideoProcessor", "size": {"shortest_edge": 3136, "longest_edge": 25600}},
        None, "",
    ),
    "another": ({"video_processor_type": "SomeVideoProcessor"}, None, "the processor of videos is not read"),
}  # fmt: skip


@pytest.mark.parametrize("is_section", [True, False])
@pytest.mark.parametrize("name", VIDEOS)
def test_sizes_of_pictures_of_videos_are_the_processors(name: str, is_section: bool, tmp_path: Path) -> None:
    keys, expected, comment = VIDEOS[name]
    (tmp_path / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"]))
    pictures = {"image_processor_type": "Qwen2VLImageProcessor", "max_pixels": 25600}
    if is_section:
        whole = {"image_processor": pictures, "video_processor": keys}
        (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    else:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
        (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(keys))
    text = import_model(tmp_path).text
    assert parse_yaml(text)["modules"]["vision"]["model"]["image"].get("video") == expected
    assert comment in " ".join(text.replace("#", " ").split())


def test_tiles_that_are_switched_off_are_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CASES["siglip_sections_empty"]))
    keys = {"image_processor_type": "Gemma3ImageProcessor", "do_pan_and_scan": False, "image_mean": 0.5}
    keys |= {"image_std": 0.5, "size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(keys))
    image = parse_yaml(import_model(tmp_path).text)["modules"]["vision"]["model"]["image"]
    assert image["resize"] == _stretch(224)
