"""A page of documents of a prepared folder: tokens with the loss mask, and items as their modules see them."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from counterpoint.argument import argument
from counterpoint.data.order.permute import permute
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.modalities.preview import MOST_FRAMES, Picture, preview_of
from counterpoint.report.markup import tag, words
from counterpoint.report.page import note, page, section
from counterpoint.report.token_boxes import Place, token_boxes, visible
from counterpoint.sources.prepared.index import TOKENIZER_NAME, Index, ItemEntry
from counterpoint.sources.prepared.part import show_extent
from counterpoint.sources.prepared.source import PreparedSource

TITLE = "Data preview"
MOST_ITEMS = 16
"""Items of a document that are drawn."""

_HEAD_BYTES = 600


@dataclass(frozen=True)
class _Previewed:
    """A split of a folder; `source` is what a run reads of it, None without a config."""

    index: Index
    tokenizer: Tokenizer
    source: PreparedSource | None


def write_preview(
    folder: Path, out: Path, *, config: Path | None = None, samples: int = 20, seed: int = 0, split: str | None = None
) -> None:
    """Write a self-contained page of `samples` documents of a split, drawn by `seed`, to the file `out`.

    With the `config` of a run items are drawn as its modules read them, else as they are stored. Raises DataError for
    a folder or split that cannot be read, and for an `out` that is something else than such a page, ConfigError for a
    bad config.
    """
    _check_out(out)
    index = Index(folder)
    name = split if split is not None else "train" if "train" in index.manifest.splits else min(index.manifest.splits)
    rows = index.rows_of(name)
    source = None if config is None else _seen_by(config, folder, name)
    previewed = _Previewed(index, Tokenizer.load(folder / TOKENIZER_NAME), source)
    chosen = np.sort(permute(np.arange(min(samples, len(rows)), dtype=np.int64), len(rows), (seed,)))
    documents = [_document(previewed, int(rows[number]), f"{name}, row {rows[number]}") for number in chosen]
    by = "as stored" if config is None else f"as the modules of {config} see them"
    legend = (
        "Each box is a token: green ones are targets of the loss, bold ones special tokens, blue ones items; crossed "
        f"out is what a sequence has no room for. Items are drawn {by}."
    )
    subtitle = f"{folder}, {name}: {len(chosen)} of {len(rows):,} documents, seed {seed}"
    out.write_text(page(TITLE, subtitle, note(legend), *documents), encoding="utf-8")


def _seen_by(config: Path, folder: Path, split: str) -> PreparedSource:
    # A config and its models take seconds to load, which most previews need not.
    from counterpoint.inspection.data_view import DataView

    return DataView.of(config).open(folder, split)


def _check_out(out: Path) -> None:
    """Raise DataError if the file is there and is no preview, or cannot be written."""
    try:
        if out.exists():
            with out.open("rb") as file:
                if tag("title", TITLE).encode() not in file.read(_HEAD_BYTES):
                    raise DataError(
                        f"{argument('out')}: {out} is something else than a preview; choose another file, or remove it."
                    )
        elif not out.parent.is_dir():
            raise DataError(f"{argument('out')}: {out.parent} is no folder; make it, or choose another file.")
    except OSError as error:
        raise DataError(f"{argument('out')}: {out} cannot be written ({error.strerror}); choose another.") from error


def _document(previewed: _Previewed, row: int, name: str) -> str:
    index, source = previewed.index, previewed.source
    tokens, loss = index.tokens(row)
    entries = index.items(row)
    number = None if source is None else source.number_of(row)
    targets = f"{len(tokens):,} tokens, {int(loss.sum()):,} of them targets"
    if source is None or number is None:
        lost = "" if source is None else " Left out: its items do not fit into a sequence, or it is empty."
        places = [Place(entry.position, _name_of(which, entry)) for which, entry in enumerate(entries)]
        kept = len(tokens) if source is None else 0
        figures = [_stored(index, which, entry) for which, entry in enumerate(entries[:MOST_ITEMS])]
        count = len(entries)
    else:
        document = source.document(number)
        lost = f" In a sequence: {document.tokens:,} rows, {document.loss_tokens:,} with a loss."
        places = list(_seen_places(source, number))
        kept = document.tokens - sum(item.rows for item in document.items)
        count = len(document.items)
        figures = [_seen(source, number, which) for which in range(min(count, MOST_ITEMS))]
    boxes = token_boxes(previewed.tokenizer, tokens, loss, places, kept)
    more = note(f"{count - MOST_ITEMS} more items are not drawn.") if count > MOST_ITEMS else ""
    return section(name, f"{targets}.{lost}", boxes, tag("div", *figures, class_="items"), more)


def _name_of(which: int, entry: ItemEntry) -> str:
    files = f", {entry.pictures} pictures" if entry.pictures > 1 else ""
    return f"{entry.kind} {which + 1}: {show_extent(entry.extent)}{files}"


def _seen_places(source: PreparedSource, number: int) -> Iterator[Place]:
    before = 0
    for which, item in enumerate(source.document(number).items):
        kind = source.intakes[item.module].kind
        yield Place(item.position - before, f"{kind} {which + 1}: {item.rows} rows of {item.module}")
        before += item.rows


def _stored(index: Index, which: int, entry: ItemEntry) -> str:
    said, preview = _name_of(which, entry), preview_of(entry.kind)
    try:
        files = index.item_files(entry, slice(MOST_FRAMES))
        picture = None if preview is None else preview.stored(files, entry.extent)
    except DataError as error:
        return _figure(None, f"{said}: cannot be read: {error}")
    return _figure(picture, f"{said} {index.file_names(entry)}")


def _seen(source: PreparedSource, number: int, which: int) -> str:
    item = source.document(number).items[which]
    intake = source.intakes[item.module]
    extent = show_extent(source.extent(number, which))
    said = f"{intake.kind} {which + 1}: {extent}, {item.rows_in} rows into {item.module}, {item.rows} out"
    preview = preview_of(intake.kind)
    try:
        payload = source.item(number, which)
    except DataError as error:
        return _figure(None, f"{said}: cannot be read: {error}")
    return _figure(None if preview is None else preview.seen(payload, intake), said)


def _figure(picture: Picture | None, caption: str) -> str:
    drawn = "" if picture is None else tag("img", src=data_url(picture), alt="")
    return tag("figure", drawn, tag("figcaption", words(visible(caption).replace("\u00b7", " "))))


def data_url(picture: Picture) -> str:
    """A picture as a PNG that is part of the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
