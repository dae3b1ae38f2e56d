"""Sample predictions with their pictures, as a grid."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from PIL import Image

from counterpoint.config.data import DataConfig, evaluation_names
from counterpoint.errors import DataError, InputError
from counterpoint.inference.predictions import Prediction
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.images.pictures import read_scaled
from counterpoint.modalities.images.spec import IMAGES, LARGEST_LIMIT
from counterpoint.report.markup import tag, words
from counterpoint.report.page import note
from counterpoint.sources.prepared.index import Index
from counterpoint.sources.prepared.source import PreparedSource

MOST_SAMPLES = 24
PICTURE_PIXELS = 144
"""The longer side of an embedded picture, which is shown at half the size."""


@dataclass(frozen=True)
class Pictures:
    """The images of a split: `rows[i]` is the row of its document i in the index."""

    index: Index
    rows: tuple[int, ...]

    @classmethod
    def open(cls, data: DataConfig, intakes: Intakes, split: str) -> "Pictures":
        """Open the pictures of a run's evaluation split; raises InputError if they cannot be found."""
        named = dict(zip(evaluation_names(data.evaluation), data.evaluation, strict=True))
        entry = named.get(split)
        if entry is None or entry.folder is None:
            raise DataError(f"data.evaluation: has no prepared split '{split}'; report the run with its own config")
        source = PreparedSource(entry.folder, entry.split, 0, intakes, data.sequence_tokens)
        return cls(source.index, tuple(source.rows.tolist()))

    def png(self, document: int) -> bytes | None:
        """The first image of a document as a small PNG, or None without a readable one."""
        items = self.index.items(self.rows[document]) if document < len(self.rows) else ()
        images = [item for item in items if item.kind == IMAGES.name]
        if not images:
            return None
        height, width = images[0].extent
        longer = max(height, width, PICTURE_PIXELS)
        small = max(1, height * PICTURE_PIXELS // longer), max(1, width * PICTURE_PIXELS // longer)
        try:
            (data,) = self.index.item_files(images[0], slice(1))
            pixels = read_scaled(data, (height, width), small, "bicubic", most_pixels=LARGEST_LIMIT)
        except DataError:
            return None
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def sample_grid(open_pictures: Callable[[], Pictures], predictions: Sequence[Prediction]) -> str:
    """A grid of at most `MOST_SAMPLES` predictions, evenly spaced over the split, not chosen by quality.

    If `open_pictures` raises InputError, the grid contains the reason instead of pictures.
    """
    count = min(len(predictions), MOST_SAMPLES)
    shown = [predictions[number * len(predictions) // count] for number in range(count)]
    try:
        pictures = open_pictures()
    except InputError as error:
        cards = [_card(each, None) for each in shown]
        return note(f"Pictures are left out: {error}") + tag("div", *cards, class_="samples")
    return tag("div", *(_card(each, pictures.png(each.index)) for each in shown), class_="samples")


def _card(prediction: Prediction, png: bytes | None) -> str:
    source = "" if png is None else f"data:image/png;base64,{base64.b64encode(png).decode()}"
    image = tag("img", src=source, alt=prediction.truth) if source else ""
    if prediction.is_exact:
        lines = [tag("p", words(prediction.truth)), tag("span", "exact", class_="badge")]
    else:
        lines = [
            tag("small", "true"), tag("p", words(prediction.truth)),
            tag("small", "written"), tag("p", marked(prediction.truth, prediction.written)),
        ]  # fmt: skip
    return tag("div", image, tag("div", *lines), class_="sample exact" if prediction.is_exact else "sample")


def marked(truth: str, written: str) -> str:
    """The written text as markup, with the words that differ from the truth highlighted."""
    expected, got = truth.split(), written.split()
    pieces = []
    for kind, _a, _b, start, stop in SequenceMatcher(None, expected, got, autojunk=False).get_opcodes():
        piece = words(" ".join(got[start:stop]))
        if piece:
            pieces.append(piece if kind == "equal" else tag("mark", piece))
    return " ".join(pieces) or "(nothing)"
