"""Video files: which frames are chosen, and that a chosen frame is the one that decoding from the start shows then."""

import io
import random
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import DataError, MissingPackageError
from counterpoint.modalities.containers import opened
from counterpoint.modalities.file_part import open_part
from counterpoint.modalities.images import video_file
from counterpoint.modalities.images.frame_choice import FrameChoice
from counterpoint.modalities.images.video_file import Timeline, VideoReader, read_frames, video_timeline
from tests.unit.modalities.videos import number_of, pixels_of, write_video

av = pytest.importorskip("av")

KINDS = {
    "mp4": ("mp4", "libx264"), "mp4 of MPEG-4": ("mp4", "mpeg4"), "mov": ("mov", "mpeg4"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx-vp9"), "old webm": ("webm", "libvpx"), "avi": ("avi", "mpeg4"),
    "avi of H.264": ("avi", "libx264"), "ts": ("mpegts", "libx264"), "mpg": ("mpeg", "mpeg1video"),
    "gif": ("gif", "gif"), "flv": ("flv", "libx264"), "asf": ("asf", "mpeg4"),
}  # fmt: skip
PIECES = {"movflags": "frag_keyframe+empty_moov"}
"""An MP4 whose header does not stand behind its data."""


def _from_the_start(data: bytes) -> list[np.ndarray]:
    """All frames, in the order in which FFmpeg shows them."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _timeline(seconds: Sequence[Fraction | int]) -> Timeline:
    return Timeline(tuple(range(len(seconds))), tuple(map(Fraction, seconds)), 4, 4)


@pytest.mark.parametrize(("form", "codec"), KINDS.values(), ids=KINDS)
def test_a_frame_is_the_one_that_decoding_from_the_start_shows(form: str, codec: str) -> None:
    data = write_video(45, form=form, codec=codec)
    shown, timeline = _from_the_start(data), video_timeline(data)
    assert len(timeline.stamps) == len(shown) == 45
    assert (timeline.height, timeline.width) == (48, 64)
    assert timeline.seconds[0] == 0
    if codec != "libx264" or form != "avi":
        assert abs(timeline.seconds[-1] - Fraction(44, 25)) < Fraction(1, 200)
    wanted = random.Random(form).sample(range(45), 20)
    for number, picture in zip(wanted, read_frames(data, [timeline.stamps[one] for one in wanted]), strict=True):
        np.testing.assert_array_equal(pixels_of(picture), shown[number])
    if codec == "libx264":
        assert [number_of(picture) for picture in read_frames(data, timeline.stamps)] == list(range(45))


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_a_video_of_any_rate_has_its_frames_at_their_times(form: str) -> None:
    stamps = [200, 240, 250, 280, 1000, 1040, 2000, 2004, 2008, 3000]
    data = write_video(stamps, form=form)
    timeline = video_timeline(data)
    np.testing.assert_allclose(np.array(timeline.seconds, float) * 1000, np.array(stamps) - 200, atol=1)
    chosen = FrameChoice(fps=2, most=4).choose(timeline)
    assert chosen == (0, 5, 8, 9), "nearest to 0, 0.93, 1.87 and 2.8 seconds"
    assert [number_of(one) for one in read_frames(data, [timeline.stamps[number] for number in chosen])] == list(chosen)


@pytest.mark.parametrize(("turn", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_frames_are_upright(turn: int, corner: tuple[int, int]) -> None:
    """The upper left corner is turned counter-clockwise, as the file's display matrix says."""
    data = write_video(1, turn=turn, mark=(0, 0))
    timeline = video_timeline(data)
    assert (timeline.height, timeline.width) == ((64, 48) if turn % 180 else (48, 64))
    (picture,) = read_frames(data, timeline.stamps)
    pixels = pixels_of(picture)
    assert pixels.shape == (timeline.height, timeline.width, 3)
    assert pixels[corner].mean() > 200
    assert (pixels > 200).mean() < 0.2


@given(
    frames=st.integers(1, 400), rate=st.sampled_from([10, 24, 25, 30, 50, 60]), fps=st.sampled_from([0.5, 1, 2, 4.0]),
    most=st.integers(1, 64),
)  # fmt: skip
def test_of_a_constant_rate_the_frames_are_those_of_qwen(frames: int, rate: int, fps: float, most: int) -> None:
    """As `Qwen3VLVideoProcessor.sample_frames` in transformers, with an even number of them; where a time is in the
    middle of two frames, rounding of floats decides there."""
    chosen = FrameChoice(fps, most).choose(_timeline([Fraction(number, rate) for number in range(frames)]))
    count = min(max(int(Fraction(frames, rate) * Fraction(fps)), 4), most, frames)
    count = max(count - count % 2, 1)
    exact = [Fraction(step * (frames - 1), max(count - 1, 1)) for step in range(count)]
    assert list(chosen) == [round(one) for one in exact]
    theirs = np.linspace(0, frames - 1, count).round().astype(int).tolist()
    assert all(mine == their or one.denominator == 2 for mine, their, one in zip(chosen, theirs, exact, strict=True))


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 20))
def test_chosen_frames_ascend_and_are_few_enough(gaps: list[int], most: int) -> None:
    seconds = [Fraction(sum(gaps[:number]), 100) for number in range(len(gaps) + 1)]
    chosen = FrameChoice(2, most).choose(_timeline(seconds))
    assert list(chosen) == sorted(chosen)
    assert 1 <= len(chosen) <= most
    assert len(chosen) == 1 or len(chosen) % 2 == 0
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, len(gaps))


@pytest.mark.parametrize(("fps", "most"), [(0, 8), (-1, 8), (float("nan"), 8), (2, 0)])
def test_a_choice_of_no_frames_is_refused(fps: float, most: int) -> None:
    with pytest.raises(DataError, match=r"--fps .*--max-frames .*: expected more than 0"):
        FrameChoice(fps, most)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that a video is opened."""
    found: list[str] = []

    def counted(file: bytes | BinaryIO, what: str) -> AbstractContextManager[object]:
        found.append(what)
        return opened(file, what)

    monkeypatch.setattr(video_file, "opened", counted)
    return found


def test_several_items_of_a_video_open_it_once_and_other_bytes_of_its_file_are_not_touched(
    tmp_path: Path, opens: list[str]
) -> None:
    first, second = write_video(50), write_video(20, gop=5)
    (tmp_path / "payload").write_bytes(b"before" + first + second + b"after")
    places = ((6, len(first)), (6 + len(first), len(second)))
    stamps = [video_timeline(data).stamps for data in (first, second)]
    opens.clear()
    reader = VideoReader()
    for number in range(0, 20, 2):
        for place, own in zip(places, stamps, strict=True):
            pictures = reader.read(place, partial(open_part, tmp_path / "payload", *place), own[number : number + 2])
            assert [number_of(picture) for picture in pictures] == [number, number + 1]
    assert len(opens) == 2


def test_reading_a_video_does_not_read_all_of_it(tmp_path: Path) -> None:
    """Sought by the file's own index: a late frame costs its group of pictures, not the file."""
    data = write_video(50, gop=5, size=(240, 320), noise=True)
    stamps = video_timeline(data).stamps

    class Counting(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            Counting.read_bytes += len(found)
            return found

    read_frames(Counting(data), stamps[45:46])
    assert Counting.read_bytes < len(data) // 2


@pytest.mark.parametrize(("form", "options"), [("matroska", {}), ("mpegts", {}), ("mp4", PIECES)])
def test_of_a_video_that_was_cut_off_the_frames_that_are_there_are_seen(form: str, options: dict[str, str]) -> None:
    data = write_video(50, form=form, options=options, noise=True)
    cut = data[: len(data) * 6 // 10]
    timeline = video_timeline(cut)
    assert 20 < len(timeline.stamps) < 45
    shown = _from_the_start(data)
    safe = len(timeline.stamps) - 6
    for number, picture in enumerate(read_frames(cut, timeline.stamps[:safe])):
        np.testing.assert_array_equal(pixels_of(picture), shown[number])


def _silent() -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


MP4 = write_video(12)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "of no kind of file that is read"),
        (PLAYLIST, "of no kind of file that is read"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "of no kind of file that is read"),
        (b"<MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>", "of no kind of file that is read"),
        (_silent(), "has no stream of pictures"),
        (MP4[: MP4.index(b"moov") - 4], "cannot be decoded"),
        (MP4[:200], "cannot be decoded"),
    ],
    ids=["nothing", "playlist", "concat", "dash", "sound", "no header", "cut header"],
)
def test_what_is_no_video_is_refused(data: bytes, message: str) -> None:
    for read in (video_timeline, lambda data: read_frames(data, [0])):
        with pytest.raises(DataError, match=message):
            read(data)


def _patched(kind: bytes, at: int, *words: int) -> bytes:
    """MP4 with words of a box replaced, `at` bytes after its type."""
    data, place = bytearray(MP4), MP4.index(kind) + 4 + at
    struct.pack_into(f">{len(words)}I", data, place, *words)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_patched(b"stsz", 4, 1, 2**31 - 1), "claims 2147483647 samples"),
        (_patched(b"stsz", 4, 0, 2**31 - 1), "claims 2147483647 samples"),
        (_patched(b"stts", 4, 2**31 - 1), "claims 2147483647 samples"),
        (_patched(b"elst", 4, 2**20), "claims 1048576 samples"),
        (_patched(b"elst", 4, 1025) + b"\0\0\x04\0free".ljust(1024, b"\0"), "claims 1025 edits, expected 1024 at most"),
    ],
)
def test_a_header_that_claims_billions_of_frames_reserves_nothing(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        video_timeline(data)


def test_frames_of_too_many_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="frames of 48x64 pixels, more than the 3071 that are decoded"):
        video_timeline(MP4, 3071)
    assert video_timeline(MP4, 3072).height == 48


def _refers(other: Path) -> bytes:
    """MP4 whose track says, by an address in `dref`, that its data lie in another file."""
    address = f"file://{other}".encode() + b"\0"
    place = MP4.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", MP4, place)
    entry = struct.pack(">I4sI", 12 + len(address), b"url ", 0) + address
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    data = bytearray(MP4[:place] + dref + MP4[place + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = MP4.index(box) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(dref) - size)
    return bytes(data)


def test_a_file_that_refers_to_another_does_not_open_it(tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(bytes(len(MP4)))
    data = _refers(other)
    pictures = read_frames(data, video_timeline(data).stamps)
    assert [number_of(picture) for picture in pictures] == list(range(12)), "the bytes at hand are decoded"


@pytest.mark.parametrize("form", ["mp4", "matroska", "avi", "mpegts", "gif"])
def test_mutated_videos_are_videos_or_data_errors(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_video(8, form=form, codec="gif" if form == "gif" else "libx264")
    generator = random.Random(form)
    for _round in range(60):
        mutant = bytearray(data)
        for _change in range(generator.choice([1, 3, 10])):
            mutant[generator.randrange(len(data))] = generator.randrange(256)
        if generator.random() < 0.2:
            del mutant[generator.randrange(4, len(mutant)) :]
        try:
            timeline = video_timeline(bytes(mutant), 2**16)
            pictures = read_frames(bytes(mutant), timeline.stamps[:12], 2**16)
        except DataError:
            continue
        assert all(pixels_of(picture).size <= 3 * 2**16 for picture in pictures)
    assert capfd.readouterr() == ("", "")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'counterpoint\[media\]'"):
        video_timeline(MP4)
