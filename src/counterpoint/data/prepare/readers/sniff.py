"""What kind of file some bytes begin, or a name says."""

from counterpoint.data.prepare.shapes.shape import AUDIO, IMAGE, VIDEO

LOOKED_AT = 32
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", IMAGE), (b"\xff\xd8\xff", IMAGE), (b"GIF87a", IMAGE), (b"GIF89a", IMAGE), (b"BM", IMAGE),
    (b"II*\0", IMAGE), (b"MM\0*", IMAGE), (b"\0\0\0\x0cjP  ", IMAGE), (b"fLaC", AUDIO), (b"OggS", AUDIO),
    (b"ID3", AUDIO),
    (b"\xff\xfb", AUDIO), (b"\xff\xf3", AUDIO), (b"\xff\xf2", AUDIO), (b"FORM", AUDIO), (b"caff", AUDIO),
    (b"\x1aE\xdf\xa3", VIDEO), (b"\0\0\x01\xba", VIDEO), (b"\0\0\x01\xb3", VIDEO),
)  # fmt: skip
_RIFF = {b"WEBP": IMAGE, b"WAVE": AUDIO, b"AVI ": VIDEO}
_BRANDS = {
    b"avif": IMAGE, b"avis": IMAGE, b"heic": IMAGE, b"heix": IMAGE, b"mif1": IMAGE, b"M4A ": AUDIO, b"M4B ": AUDIO,
}  # fmt: skip

SUFFIXES = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "jp2", "avif", "heic", "ppm"), IMAGE),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "aif", "caf", "wma"), AUDIO),
    **dict.fromkeys(("mp4", "webm", "mkv", "avi", "mov", "m4v", "mpg", "mpeg"), VIDEO),
}
"""Kinds of files by the ends of their names."""


def sniff(data: bytes) -> str | None:
    """The kind of file that some bytes begin, if they do."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], VIDEO)
    return next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), None)
