"""Types of the fixtures that make pictures and indexes."""

from collections.abc import Callable
from pathlib import Path

MakePicture = Callable[..., bytes]
MakeIndex = Callable[..., Path]
