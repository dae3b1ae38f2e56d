"""Keys of earlier versions: answered with today's, and still understood in what a run wrote."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import dump_config, load_config, load_run_config
from counterpoint.config.yaml_text import to_yaml
from counterpoint.data.fingerprint import fingerprint_of_today, first_difference
from counterpoint.errors import ConfigError
from counterpoint.setup.data import identity_of, intakes_of

SPEECH = Path(__file__).parents[2] / "parity" / "speech.yaml"


def _earlier(path: Path, image: dict[str, Any], audio: dict[str, Any] | None) -> dict[str, Any]:
    """A config as an earlier version wrote it."""
    data = load_config(path).resolved()
    for module in data["modules"].values():
        module["model"].pop("image", None)
        module["model"].pop("audio", None)
    data["data"] |= {"image": image, "audio": audio}
    return data


@pytest.mark.parametrize("audio", [None, {"seconds": None}, {"seconds": 2}])
def test_what_an_earlier_run_wrote_is_read_as_it_was_meant(tmp_path: Path, audio: dict[str, Any] | None) -> None:
    data = _earlier(SPEECH, {"size": 12, "max_patches": 9}, audio)
    data["modules"]["audio"]["model"]["positions"] = 100
    (tmp_path / "config.yaml").write_text(to_yaml(data))
    config = load_run_config(tmp_path / "config.yaml")
    image = config.resolved()["modules"]["vision"]["model"]["image"]
    assert (image["size"], image["max_patches"], image["resampling"]) == (12, 9, "bicubic")
    assert image["mean"] == image["std"] == [0.5, 0.5, 0.5]
    seconds = audio["seconds"] if audio else None
    assert (
        intakes_of(config)["audio"]
        == intakes_of(load_config(config.resolved(), [f"modules.audio.model.audio.seconds={seconds or 'own'}"]))[
            "audio"
        ]
    )
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_run_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("odd", [3, [1], "x"])
@pytest.mark.parametrize("path", ["data.image", "data.audio", "modules", "modules.vision", "modules.vision.model"])
def test_a_damaged_config_of_an_earlier_version_is_a_bad_config(tmp_path: Path, path: str, odd: object) -> None:
    data = _earlier(SPEECH, {"size": 12, "max_patches": 9}, {"seconds": 1})
    *sections, key = path.split(".")
    reduce(lambda section, name: section[name], sections, data)[key] = odd
    (tmp_path / "config.yaml").write_text(to_yaml(data))
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_run_config(tmp_path / "config.yaml")


def test_an_earlier_fingerprint_is_that_of_the_same_pixels() -> None:
    changes = [f"modules.vision.model.image={image}" for image in ("{size: 8, max_patches: 16}",)]
    config = load_config(SPEECH, changes)
    now = identity_of(config).fingerprint
    before = {key: value for key, value in now.items() if not key.startswith("modules.")}
    before |= {"data.image.size": 8, "data.image.max_patches": 16, "data.audio.seconds": None}
    assert first_difference(fingerprint_of_today(before, now), now) is None
    for change, key in (
        ("modules.vision.model.image.size=12", "modules.vision.model.image.size"),
        ("modules.vision.model.image.mean=[0.5, 0.5, 0.4]", "modules.vision.model.image.mean"),
        ("modules.vision.model.image.std=[0.5, 0.4, 0.5]", "modules.vision.model.image.std"),
        ("modules.vision.model.image.resampling=bilinear", "modules.vision.model.image.resampling"),
    ):
        other = identity_of(load_config(SPEECH, [*changes, change])).fingerprint
        assert first_difference(fingerprint_of_today(before, other), other) == key
        assert first_difference(now, other) == key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image.size=72", r"data.image: got a key of earlier versions, .*; move it to modules\.\*\.model\.image$"),
        ("data.audio={seconds: 1}", r"data.audio: got a key of .*; move it to modules\.\*\.model\.audio$"),
        ("modules.vision.model={kind: vit}", r"vision.model.image: got nothing, .*; add it like \{size: 224, max_pa"),
        ("modules.vision.model.image.mean=0.5", r"image.mean: got 0.5, expected a list; correct it"),
        ("modules.vision.model.image.mean=[0.5]", r"image.mean.1: got nothing"),
        ("modules.vision.model.image.std=[0, 1, 1]", r"image.std.0: got 0, expected more than 0"),
        ("modules.vision.model.image.resampling=cubic", r"did you mean bicubic"),
        ("modules.vision.model.image.max_pixels=89478486", r"image.max_pixels: got 89478486, expected at most 8947848"),
        ("modules.language.model.image={max_patches: 1}", r"modules.language.model.image: got an unknown key"),
    ],
)
def test_keys_are_answered(emoji: dict[str, Any], override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?m){message}"):
        load_config(emoji, [override])
