"""Videos that tests write: the grey level of each frame says its number."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

STEP, DARKEST = 4, 16
MOST = 59
"""Frames that grey levels can tell apart."""


def write_video(
    frames: int | Sequence[int] = 50,
    *,
    form: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    gop: int = 12,
    b_frames: int = 3,
    rate: int = 25,
    turn: int = 0,
    mark: tuple[int, int] | None = None,
    noise: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video of so many frames, or of frames at these times in units of 1 / (40 * rate) seconds; `size` is height,
    width. With a `mark`, frames are black, and white in the part that begins there; with `noise` they are noise."""
    import av

    stamps = [40 * number for number in range(frames)] if isinstance(frames, int) else list(frames)
    data = io.BytesIO()
    with av.open(data, "w", format=form, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        stream.bit_rate = 8_000_000
        if codec.startswith("lib"):
            stream.codec_context.time_base = Fraction(1, 40 * rate)
        if turn:
            stream.set_display_rotation(turn)
        for number, stamp in enumerate(stamps):
            pixels = np.full((*size, 3), DARKEST + STEP * number, np.uint8)
            if mark is not None:
                pixels[:] = 0
                pixels[mark[0] :, mark[1] :][: size[0] // 4, : size[1] // 4] = 255
            if noise:
                pixels = np.random.default_rng(number).integers(0, 256, pixels.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, 40 * rate)
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


def number_of(picture: bytes) -> int:
    """The number of a frame from its PPM."""
    return round((float(pixels_of(picture).mean()) - DARKEST) / STEP)


def pixels_of(picture: bytes) -> np.ndarray:
    """The pixels of a PPM (height, width, 3)."""
    kind, size, _most, data = picture.split(b"\n", 3)
    width, height = map(int, size.split())
    assert kind == b"P6"
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)
