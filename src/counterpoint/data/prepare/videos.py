"""Videos of a conversation before it is laid out: which frames of them are seen."""

from collections.abc import Sequence
from dataclasses import replace

from counterpoint.data.prepare.media import called, read_files
from counterpoint.data.text.chat import Message, Part
from counterpoint.errors import DataError
from counterpoint.modalities.images.frame_choice import FrameChoice
from counterpoint.modalities.images.video_file import video_timeline


def see_videos(messages: Sequence[Message], choice: FrameChoice, most_pixels: int) -> tuple[Message, ...]:
    """A conversation in which the frames of each video file are chosen; raises DataError naming one without any."""
    seen = [tuple(_seen(part, choice, most_pixels) for part in message.parts) for message in messages]
    return tuple(replace(message, parts=parts) for message, parts in zip(messages, seen, strict=True))


def _seen(part: Part, choice: FrameChoice, most_pixels: int) -> Part:
    if isinstance(part, str) or not part.is_video:
        return part
    (data,) = read_files(part)
    try:
        timeline = video_timeline(data, most_pixels)
    except DataError as error:
        raise DataError(f"file {called(part.files[0])}: {error}") from error
    numbers = choice.choose(timeline)
    return replace(
        part,
        picks=tuple(timeline.stamps[number] for number in numbers),
        times=tuple(timeline.seconds[number] for number in numbers),
        size=(timeline.height, timeline.width),
        data=data,
    )
