"""The shapes in which conversations are published, in the order in which a file is compared with them."""

from collections.abc import Mapping

from counterpoint.data.prepare.shapes.described import CAPTIONS, SOUND
from counterpoint.data.prepare.shapes.instructions import INSTRUCTIONS
from counterpoint.data.prepare.shapes.interleaved import PAGE, SENTENCES
from counterpoint.data.prepare.shapes.pairs import PAIRS
from counterpoint.data.prepare.shapes.shape import Columns, Shape, show_columns
from counterpoint.data.prepare.shapes.turns import TURNS
from counterpoint.errors import DataError

SHAPES: Mapping[str, Shape] = {
    "turns": TURNS,
    "pairs": PAIRS,
    "page": PAGE,
    "sentences": SENTENCES,
    "instructions": INSTRUCTIONS,
    "sound": SOUND,
    "captions": CAPTIONS,
}


def find_shape(columns: Columns, *, is_declared: bool) -> str:
    """The name of the shape of a file with some columns; raises DataError if none fits, or if a column with files or
    weights would not be read.

    Turns judge each record alone where columns are not `is_declared`, but only seen in the first rows.
    """
    name = next((name for name, shape in SHAPES.items() if shape.fits(columns)), None)
    if name is None:
        expected = "; ".join(shape.described for shape in SHAPES.values())
        raise DataError(
            f"its columns are {show_columns(columns) or 'none'}, expected one of these: {expected}. Say which column "
            "is which with --map, for example --map question=prompt --map answer=reply."
        )
    unread = SHAPES[name].unread(columns)
    if unread and (is_declared or SHAPES[name] is not TURNS):
        shown = show_columns({key: columns[key] for key in unread})
        raise DataError(
            f"nothing would read {shown} of its columns {show_columns(columns)}, which are taken as "
            f"{SHAPES[name].described}; name it with --map, or leave it out with --map ignore={unread[0]}."
        )
    return name
