"""Prompts: the rows before each answer of a document, and the turns of a user."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from counterpoint.argument import argument
from counterpoint.data.prepare.media import called, read_files
from counterpoint.data.text.chat import SYSTEM, USER, LaidChat, Medium, Message, Part
from counterpoint.errors import DataError
from counterpoint.inference.plain import Prompt
from counterpoint.kinds.modality import Intake, Payload, extent_of
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.images.spec import IMAGES, LARGEST_LIMIT
from counterpoint.sources.payload import TextPayload, lay_items, lay_text
from counterpoint.sources.source import Source


@dataclass(frozen=True, slots=True)
class Answer:
    """Targets of a document that follow one another: rows `start` to `stop`, the end token included if `is_ended`."""

    start: int
    stop: int
    is_ended: bool

    @property
    def tokens(self) -> int:
        """The tokens before the end token."""
        return self.stop - self.start - self.is_ended


def answers_of(text: TextPayload, ends: Collection[int]) -> list[Answer]:
    """The answers of a document: runs of targets, each up to one of the end tokens or a row that is no target."""
    rows = np.nonzero(text.labels >= 0)[0] + 1
    if not len(rows):
        return []
    breaks = np.nonzero((np.diff(rows) > 1) | np.isin(text.ids[rows[:-1]], list(ends)))[0] + 1
    edges = [0, *breaks.tolist(), len(rows)]
    runs = [(int(rows[first]), int(rows[last - 1]) + 1) for first, last in pairwise(edges)]
    return [Answer(start, stop, int(text.ids[stop - 1]) in ends) for start, stop in runs]


def prompt_before(source: Source, index: int, answer: Answer) -> Prompt:
    """All rows of a document before one of its answers; raises DataError for an item that cannot be read."""
    items = tuple(
        (item, source.item(index, which))
        for which, item in enumerate(source.document(index).items)
        if item.position < answer.start
    )
    return Prompt(source.text(index).ids[: answer.start], items)


def user_turns(images: Sequence[Path], prompts: Sequence[str], system: str = "") -> list[Message]:
    """The turns of a user: each image is at its mark, or all images come first if there is no mark.

    Raises DataError if the numbers of images and marks differ, or an image is not a readable file.
    """
    for image in images:
        _check_file(image)
    mark = IMAGES.mark
    marks = sum(prompt.count(mark) for prompt in prompts) if images else 0
    if marks not in (0, len(images)):
        given = argument("prompts", "--prompt")
        raise DataError(
            f"{given}: {marks} marks {mark} for {len(images)} images, expected one for each, or none where all images "
            "stand first; correct the prompts"
        )
    media = iter([Medium(IMAGES.name, (path,)) for path in images])
    turns = [Message(SYSTEM, (system,))] if system else []
    for number, prompt in enumerate(prompts):
        parts: list[Part] = list(media) if number == 0 and not marks else []
        first, *others = prompt.split(mark) if marks else [prompt]
        parts.append(first)
        for other in others:
            parts += [next(media), other]
        turns.append(Message(USER, tuple(part for part in parts if part != "")))
    return turns


def _check_file(image: Path) -> None:
    """Raise DataError unless a file can be read."""
    try:
        if image.is_file():
            image.open("rb").close()
            return
        reason = "there is no such file"
        if image.exists():
            reason = "it is a folder" if image.is_dir() else "it is no file of bytes"
    except OSError as error:
        reason = error.strerror or str(error)
    raise DataError(
        f"{argument('images', '--image')} {image}: cannot be read ({reason}), expected a PNG or JPEG file; name one"
    )


def laid_prompt(laid: LaidChat, intakes: Mapping[str, Intake]) -> Prompt:
    """The rows of a conversation, as a source lays those of a document; raises DataError naming an unreadable file."""
    positions: list[int] = []
    payloads: list[Payload] = []
    placed = []
    for position, medium in laid.media:
        intake, files = intakes[medium.kind], read_files(medium)
        try:
            # Its reader says whether it is too large, by the limit of the run.
            extent = extent_of(MODALITIES[medium.kind].extent(files[0], LARGEST_LIMIT), len(files))
            for group in intake.groups(len(files)):
                payloads.append(rows_of(intake).read(files[group], extent))
                placed.append(intake.place(extent))
                positions.append(position)
        except DataError as error:
            raise DataError(f"{argument('images', '--image')} {called(medium.files[0])}: {error}") from None
    items = lay_items(positions, placed)
    tokens, loss = np.array(laid.tokens, dtype=np.int64), np.array(laid.loss, dtype=np.bool_)
    ids = lay_text(tokens, loss, positions, [item.rows for item in items]).ids
    return Prompt(ids, tuple(zip(items, payloads, strict=True)))
