"""What a size rule is: from the size of a picture alone, its grid of patches and how its pixels come onto it."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, final

from counterpoint.kinds.modality import Scalar
from counterpoint.section.problem import Problem
from counterpoint.section.section import Section

Size = tuple[int, int]
"""Height and width: of a picture in pixels, of a grid in patches."""

Colour = tuple[int, int, int]
"""Red, green and blue from 0 to 255."""


@final
class View(NamedTuple):
    """How the pixels of a picture come onto its grid: they are scaled to `scaled`, and the grid is laid over them with
    its first pixel at `top`, `left`; what lies outside of them is black.

    With `around`, the picture is first put into the middle of a square of this colour.
    """

    scaled: Size
    top: int = 0
    left: int = 0
    around: Colour | None = None


class SizeRule(Section):
    """How a picture gets its size.

    The methods take the height and width of a picture in pixels, the side of a `patch` in pixels, and `merge`, of which
    both sides of a grid are multiples. Their arithmetic is that of integers or of IEEE doubles in a fixed order, so
    every machine plans the same.
    """

    kind: Any
    """The rule."""

    @abstractmethod
    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        """The grid of patches, at least one group of merge x merge."""

    def view(self, height: int, width: int, patch: int, merge: int) -> View:
        """How its pixels come onto the grid: by default all of them, scaled to it."""
        rows, columns = self.grid(height, width, patch, merge)
        return View((rows * patch, columns * patch))

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        """Why a picture is not taken where no more than `most_pixels` are held at a time; None if it is."""
        return None

    def of(self, pictures: int, frames: int) -> "SizeRule":
        """The rule for a picture of a video with so many, of which a patch spans `frames`: by default the same."""
        return self

    @abstractmethod
    def most(self, patch: int, merge: int) -> int:
        """The most patches of a picture that is not extremely long."""

    def at_most(self, patches: int, patch: int, merge: int) -> "SizeRule":
        """The rule with a limit of so many patches, or of one group; itself if it has no limit."""
        return self

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of the section `image` that say it, as plain data."""
        return {"resize": self.model_dump(mode="json")}

    def problems(self, where: str, at: str, patch: int, merge: int, remedy: str) -> Iterator[Problem]:
        """Problems of its values, which are `at` a key, for a model at `where`; `remedy` says how to reduce the patches
        of a row."""
        if min(self.grid(1, 1, patch, merge)) < 1:
            _key, value = self.limit
            expected = f"sides of at least {patch * merge} pixels, of which {where} makes one row"
            yield Problem(at, value, expected, f"raise them or {remedy}")

    @property
    def limit(self) -> tuple[str, str]:
        """What limits its patches: a key of the section `image`, and its value in words."""
        return "resize", f"of {self.kind}"

    @property
    def squares(self) -> bool:
        """Whether it puts a picture into a square before scaling."""
        return False

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        """What makes the grid and the pixels, by the keys of the section `image`."""
        return {f"resize.{key}": value for key, value in self.model_dump().items()}


def whole(side: int, patch: int, merge: int) -> int:
    """Patches along a side in pixels, in whole groups; pixels beyond the last one are not seen."""
    return side // (patch * merge) * merge
