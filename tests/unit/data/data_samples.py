"""Types of the fixtures that make pictures, clips and indexes."""

from collections.abc import Callable
from pathlib import Path

MakePicture = Callable[..., bytes]
MakeClip = Callable[..., bytes]
MakeIndex = Callable[..., Path]
