"""What makes pixels and frames is settled once: by the config, by what a module starts from, or by the run itself."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.load import dump_config, load_config
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import to_yaml
from counterpoint.convert.composite import VISION, composite_of
from counterpoint.convert.processor import CLIP_MEAN, CLIP_STD, check_frames, seconds_in
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.families.parts import parts_of
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.models.chain import build_chain
from counterpoint.setup.data import identity_of, intakes_of
from counterpoint.setup.run_folder import check_run_folder
from counterpoint.setup.settle import settle_items
from counterpoint.train.state.checkpoint import TrainingState
from tests.unit.cli.conftest import Command
from tests.unit.judge.converted import modules_from_ours
from tests.unit.judge.folders import write_tensors
from tests.unit.train.state.checkpoints import blocks, writer

SPEECH = Path(__file__).parents[2] / "parity" / "speech.yaml"
IMAGE = "modules.vision.model.image"
HALF = (0.5, 0.5, 0.5)
RADIO: dict[str, Any] = {
    "model_type": "radio", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 2,
    "mlp_ratio": 1.5, "max_img_size": 10, "num_cls_tokens": 2, "num_registers": 1,
}  # fmt: skip
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
PROCESSORS: Mapping[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "all said": ({"image_mean": MEAN, "image_std": STD, "resample": 2}, ("bilinear", MEAN, STD)),
    "one number": ({"image_mean": 0.25, "image_std": 0.5, "resample": 1}, ("lanczos", (0.25,) * 3, HALF)),
    "clip": ({"image_processor_type": "CLIPImageProcessorFast"}, ("bicubic", CLIP_MEAN, CLIP_STD)),
    "an older clip": (
        {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3}, ("bicubic", CLIP_MEAN, CLIP_STD),
    ),
    "siglip 2": ({"image_processor_type": "Siglip2ImageProcessor"}, ("bilinear", HALF, HALF)),
    "siglip": ({"image_processor_type": "SiglipImageProcessor"}, ("bicubic", HALF, HALF)),
    "omni": ({"norm_mean": MEAN, "norm_std": STD}, ("bicubic", MEAN, STD)),
    "not normalised": (
        {"image_processor_type": "CLIPImageProcessor", "do_normalize": False}, ("bicubic", (0.0,) * 3, (1.0,) * 3),
    ),
    "not scaled": (
        {"image_mean": MEAN, "image_std": STD, "do_rescale": False},
        ("bicubic", tuple(x / 255 for x in MEAN), tuple(x / 255 for x in STD)),
    ),
    "to two": (
        {"image_mean": MEAN, "image_std": STD, "rescale_factor": 2 / 255},
        ("bicubic", tuple(x / 2 for x in MEAN), tuple(x / 2 for x in STD)),
    ),
}  # fmt: skip
"""What a processor's file says, and what it does to pixels."""


def _folder(path: Path, processor: dict[str, Any] | None = None, *, nested: bool = False) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    if processor is not None:
        name = "processor_config.json" if nested else "preprocessor_config.json"
        (path / name).write_text(json.dumps({"image_processor": processor} if nested else processor))
    return path


def _radio(path: Path, more: Mapping[str, torch.Tensor] | None = None, **config: Any) -> Path:
    described = RADIO | config
    whole = composite_of(described)
    chain = build_chain(parts_of(whole.modules[VISION].model))
    zeros = {key: torch.zeros(tensor.shape) for key, tensor in chain.state_dict().items()}
    write_tensors(path, described, modules_from_ours(whole, {VISION: zeros}) | dict(more or {}))
    return path


def _config(tmp_path: Path, *overrides: str) -> Config:
    return load_config(SPEECH, [f"run.dir={tmp_path / 'run'}", *overrides])


def _scaling(config: Config) -> tuple[Any, ...]:
    taker = intakes_of(config)["vision"]
    assert isinstance(taker, ImageIntake)
    assert isinstance(taker.image, ImageConfig)
    scaling = taker.image.scaling
    return scaling.resampling, scaling.mean, scaling.std


def _near(values: tuple[Any, ...]) -> Any:
    return [one if isinstance(one, str) else pytest.approx(one, rel=1e-6) for one in values]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_come_from_the_processor(tmp_path: Path, name: str, nested: bool) -> None:
    processor, expected = PROCESSORS[name]
    if nested:
        # A file of its own beside the section is not what transformers reads.
        _folder(tmp_path / "hub", {"image_mean": 0.9, "image_std": 0.9})
    folder = _folder(tmp_path / "hub", processor, nested=nested)
    config = settle_items(_config(tmp_path, f"modules.vision.init_from={folder}"))
    assert list(_scaling(config)) == _near(expected)
    written = config.resolved()["modules"]["vision"]["model"]["image"]
    assert (written["resampling"], *map(tuple, (written["mean"], written["std"]))) == _scaling(config)
    assert settle_items(config) == config


def test_pixels_of_a_folder_that_says_nothing_are_the_default(tmp_path: Path) -> None:
    for start in ("null", str(_folder(tmp_path / "hub")), f"{{path: {_folder(tmp_path / 'hub')}, fresh: ['*']}}"):
        config = settle_items(_config(tmp_path, f"modules.vision.init_from={start}"))
        assert _scaling(config) == ("bicubic", HALF, HALF)
        assert settle_items(_config(tmp_path)).modules["audio"].model.model_dump()["audio"] == {"seconds": "own"}


@pytest.mark.parametrize(
    ("tensors", "config", "processor", "mean", "std"),
    [
        ({}, {}, None, CLIP_MEAN, CLIP_STD),
        ({}, {"norm_mean": MEAN, "norm_std": STD}, None, MEAN, STD),
        ({"norm_mean": MEAN, "norm_std": STD}, {"norm_mean": HALF}, None, MEAN, STD),
        ({"norm_mean": MEAN, "norm_std": STD}, {}, {"do_normalize": False}, MEAN, STD),
        ({"norm_mean": HALF, "norm_std": HALF}, {}, {"image_mean": HALF, "image_std": HALF}, (0.75,) * 3, (0.25,) * 3),
    ],
)
def test_what_a_radio_conditions_its_pixels_by_is_taken(
    tmp_path: Path,
    tensors: dict[str, Any],
    config: dict[str, Any],
    processor: dict[str, Any] | None,
    mean: Any,
    std: Any,
) -> None:
    named = {f"radio_model.input_conditioner.{n}": torch.tensor(v).view(3, 1, 1) for n, v in tensors.items()}
    folder = _radio(tmp_path / "radio", named, **config)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "CLIP"} | processor))
    settled = settle_items(_config(tmp_path, f"modules.vision.init_from={folder}"))
    assert list(_scaling(settled)) == _near(("bicubic", mean, std))


@pytest.mark.parametrize(
    ("key", "value", "got"),
    [("mean", "[0.5, 0.5, 0.5]", "[0.5, 0.5, 0.5]"), ("std", "[0.4, 0.5, 0.7]", "[0.4, 0.5, 0.7]"),
     ("resampling", "bicubic", '"bicubic"')],
)  # fmt: skip
def test_a_contradiction_is_refused(
    counterpoint: Command, settings: dict[str, Any], tmp_path: Path, key: str, value: str, got: str
) -> None:
    folder = _folder(tmp_path / "hub", {"image_mean": MEAN, "image_std": STD, "resample": 2})
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    ended = counterpoint(
        "train", tmp_path / "config.yaml", f"modules.vision.init_from={folder}", f"{IMAGE}.{key}={value}"
    )
    assert ended.code == 2
    assert f"{IMAGE}.{key}: got {got}, expected " in ended.err
    assert f"as {folder}/preprocessor_config.json says; leave it out" in ended.err
    assert not (tmp_path / "run").exists()


def test_what_a_folder_says_in_other_digits_is_no_contradiction(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "hub", {"image_processor_type": "CLIPImageProcessor"})
    float32 = [float(torch.tensor(x)) for x in CLIP_MEAN]
    config = _config(tmp_path, f"modules.vision.init_from={folder}", f"{IMAGE}.mean={float32}")
    assert list(_scaling(settle_items(config))[1]) == float32


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_processor_type": "Other", "image_mean": MEAN}, "has no image_std"),
        ({"image_mean": [0.5, 0.5], "image_std": 0.5}, r"image_mean: \[0.5, 0.5\], but only three numbers"),
        ({"image_mean": "half", "image_std": 0.5}, "image_mean: 'half', but only three numbers"),
        ({"image_mean": 0.5, "image_std": 0.5, "resample": 9}, "resample: 9, but only 0 or 1"),
        ({"image_mean": 0.5, "image_std": 0.5, "rescale_factor": "no"}, "rescale_factor: 'no'"),
        ({"image_mean": 0.5, "image_std": 0.5, "rescale_factor": 0}, "rescale_factor: 0.0, but only a number above 0"),
        ({"image_mean": 0.5, "image_std": 0.5, "rescale_factor": math.nan}, "rescale_factor: nan, but only a number"),
        ({"image_mean": 10**400, "image_std": 0.5}, "image_mean: 1000.*, but only three numbers"),
        ({"image_mean": [0.5, 0.5, math.nan], "image_std": 0.5}, "image_mean: .*, but only three numbers"),
        ({"image_mean": 0.5, "image_std": [0.5, 0, 0.5]}, "image_std: .*, but only three numbers above 0"),
    ],
)
def test_a_processor_that_cannot_be_understood_is_refused(tmp_path: Path, processor: Any, message: str) -> None:
    folder = _folder(tmp_path / "hub", processor)
    with pytest.raises(CheckpointError, match=rf"hub/preprocessor_config.json.*{message}"):
        settle_items(_config(tmp_path, f"modules.vision.init_from={folder}"))
    (folder / "preprocessor_config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"hub/preprocessor_config.json: cannot be read"):
        settle_items(_config(tmp_path, f"modules.vision.init_from={folder}"))


FRAMES = {
    "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 6, "sampling_rate": 16000, "hop_length": 160,
    "n_fft": 400, "chunk_length": 1, "padding_value": 0.0, "dither": 0.0,
}  # fmt: skip


def test_frames_are_those_of_the_folder_or_refused(tmp_path: Path) -> None:
    start = ["modules.audio.model.positions=100", f"modules.audio.init_from={tmp_path / 'hub'}"]
    _folder(tmp_path / "hub", FRAMES)
    settled = settle_items(_config(tmp_path, *start))
    assert settled.resolved()["modules"]["audio"]["model"]["audio"]["seconds"] == 1
    for seconds in (2, "own"):
        own = settle_items(_config(tmp_path, *start, f"modules.audio.model.audio.seconds={seconds}"))
        assert own.resolved()["modules"]["audio"]["model"]["audio"]["seconds"] == seconds
    for key, value in {
        "feature_size": 80,
        "sampling_rate": 8000,
        "hop_length": 128,
        "n_fft": 512,
        "dither": 1e-5,
    }.items():
        _folder(tmp_path / "hub", FRAMES | {key: value})
        with pytest.raises(CheckpointError, match=rf"preprocessor_config.json says {key}: {value}, but only"):
            settle_items(_config(tmp_path, *start))
    _folder(tmp_path / "hub", FRAMES | {"padding_value": 0, "dither": 0, "sampling_rate": 16000.0})
    assert settle_items(_config(tmp_path, *start)) == settled
    _folder(tmp_path / "hub", FRAMES | {"dither": False})
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json says dither: False, but only"):
        settle_items(_config(tmp_path, *start))


@pytest.mark.parametrize("nested", [False, True])
def test_frames_of_published_processors_are_those_made_here(tmp_path: Path, nested: bool) -> None:
    transformers = pytest.importorskip("transformers")
    for kind, normalised in (("Whisper", False), ("Parakeet", True)):
        extractor = getattr(transformers, f"{kind}FeatureExtractor")()
        folder = tmp_path / kind
        folder.mkdir()
        extractor.save_pretrained(folder)
        if nested:
            file = folder / "preprocessor_config.json"
            section = {"feature_extractor": json.loads(file.read_text())}
            (folder / "processor_config.json").write_text(json.dumps(section))
            file.unlink()
        check_frames(folder, 80, normalised=normalised)
        with pytest.raises(CheckpointError, match="says feature_size: 80, but only 128"):
            check_frames(folder, 128, normalised=normalised)
        with pytest.raises(CheckpointError, match="says n_fft"):
            check_frames(folder, 80, normalised=not normalised)
        assert seconds_in(folder) == (None if normalised else 30)


def _with_checkpoint(config: Config, text: str, data: dict[str, Any]) -> None:
    state = TrainingState(seed=config.run.seed, data_step=2, optimizer_step=2, data=data)
    writer(Path(config.run.dir)).write(blocks({"weight": torch.ones(2)}), state)
    (Path(config.run.dir) / "config.yaml").write_text(text)


def test_no_resume_changes_pixels(tmp_path: Path) -> None:
    """Neither where the folder has become another, nor where it is gone."""
    start = f"modules.vision.init_from={tmp_path / 'hub'}"
    _folder(tmp_path / "hub", {"image_mean": MEAN, "image_std": STD})
    first = settle_items(_config(tmp_path, start))
    _with_checkpoint(first, dump_config(first), identity_of(first).fingerprint)
    _folder(tmp_path / "hub", {"image_mean": STD, "image_std": MEAN})
    for again in (_config(tmp_path, start), _config(tmp_path)):
        settled = settle_items(again)
        assert _scaling(settled) == _scaling(first)
        check_run_folder(settled, {})
    other = settle_items(_config(tmp_path, start, f"{IMAGE}.mean=[0.5, 0.5, 0.5]"))
    with pytest.raises(CheckpointError, match=rf"written with {IMAGE}.mean .*0.1, 0.2, 0.3.*got .*0.5, 0.5, 0.5"):
        check_run_folder(other, {})


def test_a_run_of_an_earlier_version_goes_on_with_its_pixels_if_it_says_so(tmp_path: Path) -> None:
    start = f"modules.vision.init_from={_folder(tmp_path / 'hub', {'image_mean': MEAN, 'image_std': STD})}"
    now = _config(tmp_path, start)
    data = now.resolved()
    image = data["modules"]["vision"]["model"].pop("image")
    del data["modules"]["audio"]["model"]["audio"]
    data["data"] |= {"image": {key: image[key] for key in ("size", "max_patches")}, "audio": None}
    before = {key: value for key, value in identity_of(now).fingerprint.items() if not key.startswith("modules.")}
    before |= {"data.image.size": image["size"], "data.image.max_patches": 16, "data.audio.seconds": None}
    _with_checkpoint(now, to_yaml(data), before)
    with pytest.raises(ConfigError) as caught:
        settle_items(now)
    mean, std = str(caught.value).splitlines()
    assert mean.startswith(
        f"{IMAGE}.mean: got nothing, expected [0.5, 0.5, 0.5], which this run was trained with, becau"
    )
    assert f"; set {IMAGE}.std=[0.5, 0.5, 0.5] to go on, or choose another run.dir" in std
    said = settle_items(_config(tmp_path, start, f"{IMAGE}.mean=[0.5, 0.5, 0.5]", f"{IMAGE}.std=[0.5, 0.5, 0.5]"))
    check_run_folder(said, {})
    # Where no folder says otherwise there is nothing to say.
    check_run_folder(settle_items(_config(tmp_path)), {})


def test_a_module_that_starts_from_a_run_has_its_pixels(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = load_config(SPEECH, [f"{IMAGE}.mean={list(MEAN)}", f"{IMAGE}.std={list(STD)}"])
    (tmp_path / "first" / "config.yaml").write_text(dump_config(settle_items(first)))
    start = f"modules.vision.init_from={tmp_path / 'first'}"
    assert list(_scaling(settle_items(_config(tmp_path, start)))) == _near(("bicubic", MEAN, STD))
    with pytest.raises(ConfigError, match=rf"{IMAGE}.mean: got .0.5, .* as {tmp_path}/first/config.yaml says"):
        settle_items(_config(tmp_path, start, f"{IMAGE}.mean=[0.5, 0.5, 0.5]"))
