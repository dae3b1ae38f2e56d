"""What becomes of documents is counted by reason, and a dataset of which too much is lost is refused."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.census import (
    CUT_TARGETS,
    DECLARED,
    EMPTY,
    NO_TARGET,
    TOO_LARGE,
    TOO_SHORT,
    UNFIT,
    Census,
    check_census,
)
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.synthetic.source import COUNTED, SyntheticSource
from counterpoint.sources.synthetic.spec import SyntheticRecipe
from tests.recipes import constant, images, recipe_of, uniform
from tests.unit.items import MakeIndex, MakePicture

VISION = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4)
AUDIO = ClipIntake("audio", mels=8, window=4, stride=2, stack=1, positions=8)
TAKERS: Intakes = {"vision": VISION, "audio": AUDIO}
LIMIT = 24
Drawn = list[tuple[list[bool], list[tuple[int, str]]]]

documents = st.lists(
    st.tuples(
        st.lists(st.booleans(), max_size=40),
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["image", "long clip"])), max_size=2),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=documents)
def test_counts_are_those_of_the_documents_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, make_picture: MakePicture, make_clip: MakePicture, drawn: Drawn
) -> None:
    picture, clip = make_picture(16, 16), make_clip(AUDIO.most_samples + 1)
    folder = tmp_path_factory.mktemp("census") / "index"
    expected: dict[str, Any] = {
        "documents": 0,
        "cut": 0,
        "loss": 0,
        "left": dict[str, int](),
        "silent": dict[str, int](),
    }
    with IndexWriter(folder) as writer:
        (writer.folder / "tokenizer.json").write_text("{}")
        for loss, places in [([True] * 3, []), *drawn]:
            items = sorted((min(position, len(loss)), kind) for position, kind in places)
            files = [Encoded(p, picture) if kind == "image" else Encoded(p, clip, "audio") for p, kind in items]
            writer.add(Record([1] * len(loss), loss, "train", "", files))
            _count(expected, loss, items)
        writer.add(Record([1] * 9, [True] * 9, "other", ""))
        writer.publish()
    source = PreparedSource(folder, "train", 0, TAKERS, LIMIT)
    census = source.census
    assert (census.documents, census.counted) == (expected["documents"],) * 2
    assert (census.cut, census.loss_tokens) == (expected["cut"], expected["loss"])
    assert census.left_out == expected["left"]
    assert census.without_loss == expected["silent"]
    assert census.kept == len(source)
    assert census.loss_tokens == sum(source.document(index).loss_tokens for index in range(len(source)))


def _count(expected: dict[str, Any], loss: list[bool], items: list[tuple[int, str]]) -> None:
    """A document, token by token."""
    expected["documents"] += 1
    rows = sum(16 if kind == "image" else AUDIO.place((AUDIO.most_samples + 1,)).rows for _position, kind in items)
    kept = min(len(loss), LIMIT - rows)
    reason = None
    if any(kind == "long clip" for _position, kind in items):
        reason = TOO_LARGE
    elif kept < max((position for position, _kind in items), default=0):
        reason = UNFIT
    elif kept + rows == 0:
        reason = EMPTY
    if reason is not None:
        expected["left"][reason] = expected["left"].get(reason, 0) + 1
        return
    first = 0 if any(position == 0 for position, _kind in items) else 1
    expected["cut"] += kept < len(loss)
    expected["loss"] += sum(loss[first:kept])
    if not sum(loss[first:kept]):
        silent = CUT_TARGETS if sum(loss[first:]) else NO_TARGET
        expected["silent"][silent] = expected["silent"].get(silent, 0) + 1


def test_synthetic_documents_are_drawn_and_counted() -> None:
    recipe = recipe_of(1000, 0, uniform(1, 40), **images(uniform(0, 3), constant(16), constant(16)), without_loss=0.25)
    source = SyntheticSource(recipe, 0, {"vision": VISION}, LIMIT, 10)
    census = source.census
    assert (census.documents, census.counted, census.kept) == (1000, COUNTED, COUNTED)
    chosen = [source.document(number * 1000 // COUNTED) for number in range(COUNTED)]
    assert census.loss_tokens == sum(document.loss_tokens for document in chosen)
    silent = sum(not document.loss_tokens for document in chosen)
    assert sum(census.without_loss.values()) == silent
    assert 0 < census.without_loss[DECLARED] <= silent
    assert 0 < census.cut < COUNTED
    assert "1,000 documents: of 256 counted: 256 kept" in census.words
    full = recipe_of(99, 0, constant(5), **images(constant(1), constant(16), constant(16)))
    assert SyntheticSource(full, 0, {"vision": VISION}, 17, 10).census.without_loss == {CUT_TARGETS: 99 - _led(full)}
    assert SyntheticSource(recipe_of(5, 0, constant(1)), 0, {}, 9, 10).census.without_loss == {TOO_SHORT: 5}
    few = SyntheticSource(recipe_of(7, 0, constant(5)), 0, {}, LIMIT, 10).census
    assert few == Census(documents=7, counted=7, cut=0, loss_tokens=28)
    assert few.words == "7 documents: all kept whole"


def _led(recipe: SyntheticRecipe) -> int:
    """The documents of one image and one token whose image stands first, so that the token is learned."""
    source = SyntheticSource(recipe, 0, {"vision": VISION}, 17, 10)
    return sum(source.document(index).items[0].position == 0 for index in range(len(source)))


def test_what_is_declared_to_teach_nothing_is_not_lost() -> None:
    check_census("x", Census(4, 4, 0, 0, {}, {DECLARED: 4}), 0.0)
    with pytest.raises(DataError, match="x: no document has a loss token"):
        check_census("x", Census(4, 4, 0, 0, {}, {DECLARED: 3, NO_TARGET: 1}), 1.0)
    check_census("x", Census(4, 4, 0, 9, {}, {TOO_SHORT: 3}), 0.0)
    with pytest.raises(DataError, match="x: no document has a loss token"):
        check_census("x", Census(4, 4, 0, 0, {}, {TOO_SHORT: 4}), 1.0)


@pytest.mark.parametrize(("share", "is_refused"), [(0.0, True), (0.29, True), (0.3, False), (1.0, False)])
def test_a_share_may_be_lost(share: float, is_refused: bool) -> None:
    census = Census(10, 10, 5, 70, {UNFIT: 2}, {CUT_TARGETS: 1})
    if is_refused:
        with pytest.raises(DataError, match=r"x: 30\.0% of the documents are lost .* raise data\.max_lost"):
            check_census("x", census, share)
    else:
        check_census("x", census, share)


def test_counts_need_no_document(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns alone are read, so an index of millions of documents is counted in seconds."""
    folder = make_index([Record([1, 2, 3], [False, True, True], "train", "")] * 3000)
    for name in ("document", "text", "_read_document", "_read_pieces"):
        monkeypatch.setattr(PreparedSource, name, lambda *_arguments: pytest.fail("a document was read"))
    assert PreparedSource(folder, "train", 0, {}, 2).census == Census(3000, 3000, 3000, 3000)
