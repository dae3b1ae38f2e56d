"""Clips of every kind of file, rate, width and number of channels: their length and waveform at the encoders' rate."""

import io
from collections.abc import Callable

import numpy as np
import pytest

from counterpoint.errors import DataError, MissingPackageError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.clip_file import clip_samples, read_clip
from counterpoint.modalities.clips.resample import needed_length, resample, resampled_length
from counterpoint.modalities.clips.spec import RATE

soundfile = pytest.importorskip("soundfile")
av = pytest.importorskip("av")

SECONDS, HERTZ, LOUD = 1.3, 440.0, 0.5
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
KINDS = {"flac16": ("FLAC", "PCM_16"), "flac24": ("FLAC", "PCM_24"), "mp3": ("MP3", "MPEG_LAYER_III"),
         "vorbis": ("OGG", "VORBIS"), "aiff": ("AIFF", "PCM_24"), "caf": ("CAF", "PCM_16"), "au": ("AU", "PCM_16"),
         "adpcm": ("WAV", "MS_ADPCM")}  # fmt: skip
EXACT = ("flac16", "flac24", "aiff", "caf", "au")


def _tone(rate: int, samples: int | None = None, hertz: float = HERTZ, loud: float = LOUD) -> Floats:
    times = np.arange(round(rate * SECONDS) if samples is None else samples) / rate
    return (loud * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def _encoded(values: Floats, rate: int, kind: str) -> bytes:
    data = io.BytesIO()
    form, subtype = KINDS[kind]
    soundfile.write(data, values, rate, format=form, subtype=subtype)
    return data.getvalue()


def _read(data: bytes) -> Floats:
    samples = clip_samples(data)
    wave = read_clip(data, samples)
    assert wave.shape == (samples,)
    assert wave.dtype == np.float32
    return wave


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_stays_in_time_pitch_and_loudness_at_every_rate(rate: int) -> None:
    wave = resample(_tone(rate), rate)
    assert len(wave) == resampled_length(round(rate * SECONDS), rate) == -(-round(rate * SECONDS) * RATE // rate)
    inside = slice(400, -400)
    np.testing.assert_allclose(wave[inside], _tone(RATE, len(wave))[inside], atol=3e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_what_the_lower_rate_cannot_carry_is_gone_and_the_rest_stays(rate: int) -> None:
    nyquist = min(rate, RATE) / 2
    passed, last = resample(_tone(rate, hertz=0.1 * nyquist), rate), resample(_tone(rate, hertz=0.9 * nyquist), rate)
    for wave in (passed, last):
        assert np.abs(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).max() / len(wave) * 4 - LOUD) < 2e-3
    if rate > RATE:
        assert np.abs(resample(_tone(rate, hertz=1.01 * nyquist), rate)[400:-400]).max() < 1e-5


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 15_999])
def test_resampled_noise_has_the_values_of_its_spectrum(rate: int) -> None:
    """A second of noise below 0.9 of the lower Nyquist frequency: its spectrum says its values at all times."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(rate))
    spectrum[int(0.9 * min(rate, RATE) / 2) :] = 0
    noise = np.fft.irfft(spectrum, rate).astype(np.float32)
    exact = np.fft.irfft(np.pad(spectrum, (0, RATE))[: RATE // 2 + 1], RATE) * RATE / rate
    inside = slice(500, -500)
    assert np.abs(resample(noise, rate) - exact)[inside].max() < 5e-6 * np.abs(noise).max()


@pytest.mark.parametrize("rate", [8_000, 15_999, 44_100, 48_000])
@pytest.mark.parametrize("wanted", [1, 127, 1000])
def test_the_beginning_depends_on_the_samples_that_are_read_for_it_alone(rate: int, wanted: int) -> None:
    noise = np.random.default_rng(1).standard_normal(rate).astype(np.float32)
    part = resample(noise[: needed_length(wanted, rate)], rate)[:wanted]
    np.testing.assert_allclose(part, resample(noise, rate)[:wanted], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_clip_of_every_kind_is_what_libsndfile_reads(kind: str, rate: int, channels: int) -> None:
    left = _tone(rate)
    values = np.stack([left, 0.5 * left][:channels], axis=1)
    data = _encoded(values, rate, kind)
    theirs, found = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert found == rate
    expected = resample(theirs.mean(axis=1, dtype=np.float32), rate)
    wave = _read(data)
    assert len(wave) == len(expected)
    tolerance = 0.0 if kind in EXACT else 0.05 if kind == "adpcm" else 1e-5
    np.testing.assert_allclose(wave, expected, rtol=0, atol=tolerance)
    share = 1e-4 if kind in EXACT else 0.1
    inside = slice(2000, -2000)
    tone = _tone(RATE, len(wave)) * (1.0 if channels == 1 else 0.75)
    np.testing.assert_allclose(wave[inside], tone[inside], atol=share * LOUD)


def test_opus_is_read_at_its_own_rate() -> None:
    data = io.BytesIO()
    soundfile.write(data, _tone(48_000), 48_000, format="OGG", subtype="OPUS")
    wave = _read(data.getvalue())
    assert len(wave) == resampled_length(round(48_000 * SECONDS), 48_000)
    assert np.corrcoef(wave, _tone(RATE, len(wave)))[0, 1] > 0.99


@pytest.mark.parametrize(("form", "codec"), [("ipod", "aac"), ("adts", "aac"), ("matroska", "libopus")])
def test_sound_in_containers_of_video_is_read(form: str, codec: str) -> None:
    data = io.BytesIO()
    with av.open(data, "w", format=form) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        tone = _tone(48_000)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.rate, frame.pts = 48_000, 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (part := fifo.read(1024 if codec == "aac" else 960, partial=False)) is not None:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    wave = _read(data.getvalue())
    assert abs(len(wave) - SECONDS * RATE) < 0.1 * RATE
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() * RATE / len(wave) - HERTZ) < 2


def test_only_the_beginning_of_a_long_clip_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 4).astype(np.float32)
    data = _encoded(values, 44_100, "flac16")
    samples = clip_samples(data)
    whole = read_clip(data, samples)
    damaged = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    np.testing.assert_array_equal(read_clip(damaged, samples, RATE), whole[:RATE])
    with pytest.raises(DataError):
        read_clip(damaged, samples)


@pytest.mark.parametrize("kind", ["mp3", "vorbis", "adpcm"])
def test_a_clip_that_was_cut_off_is_what_is_there(kind: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000).astype(np.float32)
    data = _encoded(noise, 44_100, kind)
    whole, cut = _read(data), _read(data[: len(data) * 2 // 3])
    assert 0.1 * len(whole) < len(cut) < 0.9 * len(whole)
    np.testing.assert_allclose(cut[:-1500], whole[: len(cut) - 1500], atol=1e-4)


@pytest.mark.parametrize("kind", ["flac16", "flac24", "vorbis"])
def test_damage_within_a_clip_is_refused(kind: str) -> None:
    generator = np.random.default_rng(0)
    data = bytearray(_encoded(generator.uniform(-0.5, 0.5, 200_000).astype(np.float32), RATE, kind))
    middle = len(data) // 2
    data[middle : middle + 64] = generator.bytes(64)
    with pytest.raises(DataError, match=r"the clip cannot be decoded|the clip is damaged"):
        clip_samples(bytes(data))


def test_flac_that_was_cut_off_is_refused() -> None:
    data = _encoded(_tone(RATE), RATE, "flac24")
    with pytest.raises(DataError, match=r"the clip cannot be decoded|the clip is damaged"):
        clip_samples(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "of no kind of file that is read"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "of no kind of file that is read"),
        (b"fLaC", "the clip cannot be decoded|has no sample"),
        (b"ID3\x04\0\0\0\0\0\0" + bytes(500), "the clip cannot be decoded|has no s"),
        (b"OggS" + bytes(500), "the clip cannot be decoded|has no s"),
    ],
)
def test_other_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        clip_samples(data)


@pytest.mark.parametrize(("kind", "package"), [("flac16", "soundfile"), ("mp3", "av")])
def test_a_missing_extra_is_named_and_is_no_fault_of_the_data(
    kind: str, package: str, hide: Callable[[str], None]
) -> None:
    data = _encoded(_tone(RATE), RATE, kind)
    hide(package)
    with pytest.raises(MissingPackageError, match=r"pip install 'counterpoint\[media\]'"):
        clip_samples(data)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package impossible to import."""
    return lambda name: monkeypatch.setitem(__import__("sys").modules, name, None)


@pytest.mark.parametrize("kind", ["flac24", "mp3", "vorbis", "adpcm"])
def test_mutated_clips_are_clips_or_data_errors(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(len(kind))
    data = _encoded(_tone(22_050, 4000), 22_050, kind)
    for _round in range(100):
        mutant = bytearray(data)
        for at in generator.integers(0, len(data), 4):
            mutant[at] = generator.integers(0, 256)
        if generator.random() < 0.3:
            del mutant[generator.integers(4, len(mutant)) :]
        try:
            samples = clip_samples(bytes(mutant))
        except DataError:
            continue
        assert len(read_clip(bytes(mutant), samples)) == samples
    assert capfd.readouterr() == ("", "")
