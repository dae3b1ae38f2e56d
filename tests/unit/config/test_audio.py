"""Keys of clips: what they default to, and what is refused in one sentence."""

from pathlib import Path

import pytest

from counterpoint.config import load_config
from counterpoint.config.graph import marks_of
from counterpoint.data.fingerprint import first_difference
from counterpoint.errors import ConfigError
from counterpoint.families.conformer.spec import MOST_MELS as MOST_OF_CONFORMERS
from counterpoint.families.whisper.spec import MOST_MELS as MOST_OF_WHISPER
from counterpoint.modalities.clips.mel import mel_filters
from counterpoint.setup.data import identity_of, intakes_of
from counterpoint.setup.plan import models_of

SPEECH = Path(__file__).parents[2] / "parity" / "speech.yaml"
SOURCE = "data.train.0.synthetic"
CLIPS = "modules.audio.model.audio"


def test_an_encoder_of_clips_is_read_as_it_is_meant() -> None:
    config = load_config(SPEECH, ["modules.audio.model.positions=100", "modules.audio.model.audio.seconds=2"])
    assert marks_of(config) == {"vision": "<image>", "audio": "<audio>"}
    section, ends = models_of(config, None)["audio"]
    assert (section.norm_eps, section.activation, section.key_bias, section.qkv_bias) == (1e-5, "gelu", False, True)
    assert (section.mels, section.positions, section.stack, ends.taps) == (6, 100, 2, (1,))
    settings = intakes_of(config)
    assert {name: taker.kind for name, taker in settings.items()} == {"vision": "image", "audio": "audio"}
    assert settings["audio"].place((5,)).rows_in == 100


@pytest.mark.parametrize(
    ("override", "path", "got", "expected", "remedy"),
    [
        ("modules.audio.model.hidden=9", "modules.audio.model.hidden", "9", "an even width", "change it"),
        (
            "modules.audio.model.stack=14",
            "modules.audio.model.stack",
            "14",
            "at most modules.audio.model.pos",
            "change",
        ),
        ("modules.audio.model.mels=150", "modules.audio.model.mels", "150", "at most 149", "lower it"),
        (f"{CLIPS}={{seconds: 1}}", f"{CLIPS}.seconds", "1, 50 rows", "at most 12 rows", "raise positions"),
        (f"{CLIPS}={{seconds: 0}}", f"{CLIPS}.seconds", "0", 'at least 1 or "own"', "the default, null"),
        (f"{CLIPS}={{size: 1}}", f"{CLIPS}.size", "an unknown key", "one of seconds", "did you mean"),
        (
            f"{SOURCE}.audio_milliseconds={{kind: constant, value: 0}}",
            f"{SOURCE}.audio_milliseconds",
            "a smallest value of 0",
            "at least 1",
            "raise",
        ),
        (
            f"{SOURCE}.audio_per_document={{kind: uniform, low: 2, high: 1}}",
            f"{SOURCE}.audio_per_document.low",
            "2",
            "at most audio_per_document.high, 1",
            "swap",
        ),
        (f"{SOURCE}.without={{langauge: 0.5}}", f"{SOURCE}.without.langauge", "0.5", "vision, audio", "correct"),
        ("edges.1.mark=<image>", "edges", 'the mark "<image>" of 2 modules', "a mark of its own", "name one"),
    ],
)
def test_what_clips_cannot_be_is_one_sentence(override: str, path: str, got: str, expected: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(SPEECH, [override])
    lines = [line for line in str(caught.value).splitlines() if f"{path}: got " in line]
    sentences = [line.split(f"{path}: got ")[1] for line in lines]
    found, rest = next(text for text in sentences if expected in text).split(", expected ", 1)
    wanted, cure = rest.rsplit("; ", 1)
    assert got in found
    assert expected in wanted
    assert remedy in cure


def test_bands_without_a_frequency_are_refused() -> None:
    """The most bands are those up to which each has a frequency of the transform that frames are made by."""
    for most, width in ((MOST_OF_WHISPER, 400), (MOST_OF_CONFORMERS, 512)):
        have_some = [(mel_filters(mels, width) > 0).any(axis=0).all() for mels in range(1, most + 2)]
        assert all(have_some[:-1])
        assert not have_some[-1]


def test_a_conformers_bands_are_bounded_too() -> None:
    with pytest.raises(ConfigError, match=r"modules.audio.model.mels: got 200, expected at most 192, because narrower"):
        load_config(SPEECH, [f"modules.audio.model={CONFORMER}", "modules.audio.model.mels=200"])


def test_norms_that_no_projector_of_a_conformer_has_are_refused() -> None:
    changes = [f"modules.audio.model={CONFORMER}", "modules.audio.model.tap_norm=rms", "edges.1.depths=[]"]
    with pytest.raises(
        ConfigError, match=r'audio.model.tap_norm: got "rms", expected none, because no edge from audio'
    ):
        load_config(SPEECH, changes)


CONFORMER = "{kind: conformer, layers: 3, hidden: 12, heads: 3, ffn: 12, mels: 8, projector: {kind: linear}}"


def test_clips_need_a_module() -> None:
    data = load_config(SPEECH).resolved()
    del data["modules"]["audio"]
    data["edges"] = data["edges"][:1]
    data["modules"]["language"]["layout"]["ranks"], data["world"]["size"] = [1], 2
    with pytest.raises(ConfigError) as caught:
        load_config(data)
    lines = str(caught.value).splitlines()
    assert any(f"{SOURCE}.audio_per_document: got up to 2, expected 0, because no module" in line for line in lines)


def test_the_length_of_clips_decides_the_data_of_a_run() -> None:
    lengths = [
        load_config(SPEECH, ["modules.audio.model.positions=100", *more])
        for more in ([], ["modules.audio.model.audio.seconds=2"])
    ]
    assert first_difference(*(identity_of(one).fingerprint for one in lengths)) == "modules.audio.model.audio.seconds"
