from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Document, Item
from counterpoint.sources.entry import Opening
from counterpoint.sources.payload import lay_text
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index, ItemEntry
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource, open_prepared
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.items import MakeIndex, MakePicture, patches_of

SETTINGS = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4, merge=2)
TAKERS = {"vision": SETTINGS}


def test_labels_are_the_next_row_and_only_where_it_is_a_target() -> None:
    payload = lay_text(np.array([1, 5, 6, 2]), np.array([True, True, False, True]), [0, 2], [2, 1])
    assert payload.ids.tolist() == [NO_TOKEN, NO_TOKEN, 1, 5, NO_TOKEN, 6, 2]
    assert payload.labels.tolist() == [NO_LABEL, 1, 5, NO_LABEL, NO_LABEL, 2, NO_LABEL]


def test_a_document_is_known_without_its_payload(make_index: MakeIndex, make_picture: MakePicture) -> None:
    pictures = [Encoded(0, make_picture(16, 16)), Encoded(2, make_picture(16, 8)), Encoded(2, make_picture(8, 16))]
    folder = make_index([Record([1, 5, 6, 2], [False, True, True, True], "train", "five six", pictures)])
    (folder / PAYLOAD_NAME).write_bytes(bytes((folder / PAYLOAD_NAME).stat().st_size))
    source = PreparedSource(folder, "train", 3, TAKERS, 64)
    items = (Item("vision", 0, 16, 4, 2), Item("vision", 6, 8, 2, 1), Item("vision", 8, 8, 2, 2))
    assert source.document(0) == Document(3, 0, 12, 3, items)
    assert [SETTINGS.grid(*source.extent(0, which)) for which in range(3)] == [(4, 4), (4, 2), (2, 4)]
    assert source.text(0).ids.tolist() == [-1] * 4 + [1, 5] + [-1] * 4 + [6, 2]
    assert source.caption(0) == "five six"


def test_metadata_is_read_once_for_planning_and_reading(
    make_index: MakeIndex, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    items = Index.items

    def noted(index: Index, row: int) -> tuple[ItemEntry, ...]:
        rows.append(row)
        return items(index, row)

    monkeypatch.setattr(Index, "items", noted)
    folder = make_index([Record([1, 2], [False, True], "train", "one", [Encoded(0, make_picture(16, 16))])])
    source = PreparedSource(folder, "train", 0, TAKERS, 64)
    assert source.document(0) is source.document(0)
    assert (source.text(0).ids.tolist(), source.extent(0, 0), source.item(0, 0).rows) == (
        [-1] * 4 + [1, 2],
        (16, 16),
        16,
    )
    assert rows == [0]


Drawn = list[tuple[list[tuple[int, bool]], list[int]]]
records = st.lists(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=12).flatmap(
        lambda text: st.tuples(st.just(text), st.lists(st.integers(0, len(text)), max_size=3).map(sorted))
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=records, limit=st.integers(1, 24))
def test_metadata_and_payload_agree_whatever_is_cut(
    tmp_path_factory: pytest.TempPathFactory, make_picture: MakePicture, drawn: Drawn, limit: int
) -> None:
    from counterpoint.sources.prepared.index import TOKENIZER_NAME
    from counterpoint.sources.prepared.index_writer import IndexWriter

    folder = tmp_path_factory.mktemp("cut") / "index"
    sizes = [(16, 16), (8, 16), (4, 16)]
    fits = []
    with IndexWriter(folder) as writer:
        (writer.folder / TOKENIZER_NAME).write_text("{}")
        for text, positions in drawn:
            images = [Encoded(p, make_picture(*size)) for p, size in zip(positions, sizes)]
            rows = sum((4, 2, 2)[: len(images)])
            whole = max([rows + p for p in positions[-1:]], default=0)
            fits.append(whole <= limit and rows + len(text) > 0)
            writer.add(Record([i for i, _ in text], [t for _, t in text], "train", "", images))
        writer.publish()
    if not any(fits):
        with pytest.raises(DataError, match=f"none of its {len(fits)} samples fits into {limit} rows"):
            PreparedSource(folder, "train", 0, TAKERS, limit)
        return
    source = PreparedSource(folder, "train", 0, TAKERS, limit, mtp_depths=6)
    assert (len(source), source.excluded) == (sum(fits), len(fits) - sum(fits))
    for index, (text, _positions) in enumerate(record for record, fit in zip(drawn, fits) if fit):
        document, payload = source.document(index), source.text(index)
        item_rows = sum(item.rows for item in document.items)
        assert document.tokens == len(payload.ids) == len(payload.labels) == min(limit, len(text) + item_rows)
        assert (payload.labels != NO_LABEL).sum() == document.loss_tokens
        further = tuple((payload.labels[ahead:] != NO_LABEL).sum() for ahead in range(1, 7))
        assert document.mtp_loss_tokens == further
        assert (payload.ids[:-1][payload.labels[:-1] != NO_LABEL] >= NO_TOKEN).all()
        is_item = np.zeros(document.tokens, dtype=bool)
        for item in document.items:
            is_item[item.position : item.position + item.rows] = True
        assert ((payload.ids == NO_TOKEN) == is_item).all()
        assert payload.ids[~is_item].tolist() == [i for i, _ in text][: document.tokens - item_rows]


def test_images_without_a_module_are_refused(make_index: MakeIndex, make_picture: MakePicture) -> None:
    picture = [Encoded(0, make_picture(8, 8))]
    folder = make_index([Record([1], [True], "train", "", picture), Record([1], [True], "plain", "")])
    with pytest.raises(DataError, match=r"split 'train': 1 samples hold images, a modality without a module; add"):
        PreparedSource(folder, "train", 0, {}, 64)
    assert PreparedSource(folder, "plain", 0, {}, 64).document(0) == Document(0, 0, 1, 0)


def test_images_go_to_the_module_whose_mark_they_stand_at(make_index: MakeIndex, make_picture: MakePicture) -> None:
    folder = make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(8, 8))])])
    other = replace(SETTINGS, module="other", mark="<other>")
    source = PreparedSource(folder, "train", 0, {"other": other, "vision": SETTINGS}, 64)
    assert source.document(0).items[0].module == "vision"
    assert list(source.intakes) == ["vision"]
    with pytest.raises(DataError, match="at the mark '<image>', but the edges take '<other>' of module other"):
        PreparedSource(folder, "train", 0, {"other": other}, 64)


def test_tokens_of_another_tokenizer_are_refused(make_index: MakeIndex) -> None:
    folder = make_index([Record([1, 2], [True, True], "train", "")])
    opening = Opening({}, 64, 100)
    source = open_prepared(folder, "train", 0, opening)
    same = replace(opening, tokenizer_digest=source.index.manifest.tokenizer_sha256)
    assert open_prepared(folder, "train", 1, same).document(0).source == 1
    with pytest.raises(DataError, match="another tokenizer"):
        open_prepared(folder, "train", 0, replace(opening, tokenizer_digest="0" * 64))


def _corrupted(folder: Path, first: int, length: int) -> None:
    path = folder / PAYLOAD_NAME
    data = bytearray(path.read_bytes())
    data[first : first + length] = bytes(length)
    path.write_bytes(data)


@pytest.mark.parametrize(("first", "length"), [(0, 8), (60, 8), (16, 8), (200, 400)])
def test_a_bad_payload_becomes_neutral_content_of_the_planned_size(
    make_index: MakeIndex, make_picture: MakePicture, first: int, length: int
) -> None:
    folder = make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(16, 16))])])
    source = PreparedSource(folder, "train", 0, TAKERS, 64)
    (expected,) = source.document(0).items
    good, no_reason = load_item_or_neutral(source, 0, 0, expected)
    assert no_reason is None
    _corrupted(folder, first, length)
    neutral, reason = load_item_or_neutral(source, 0, 0, expected)
    assert isinstance(reason, DataError)
    assert "document 0, item 0" in str(reason)
    blank, shown = patches_of(neutral), patches_of(good)
    assert not blank.patches.any()
    assert blank.patches.shape == shown.patches.shape
    assert blank.patches.dtype == shown.patches.dtype
    assert blank.grid == shown.grid


def test_an_item_of_another_size_than_planned_is_found(make_index: MakeIndex, make_picture: MakePicture) -> None:
    folder = make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(16, 16))])])
    _payload, reason = load_item_or_neutral(
        PreparedSource(folder, "train", 0, TAKERS, 64), 0, 0, Item("vision", 0, 12, 3)
    )
    assert "emitted 16 patches on a grid 4x4, but the plan expects 12" in str(reason)
