from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN
from counterpoint.sources.source import load_item_or_neutral
from counterpoint.sources.synthetic.source import SyntheticSource
from counterpoint.sources.synthetic.spec import SyntheticRecipe
from tests.recipes import constant, images, lognormal, recipe_of, uniform
from tests.unit.items import patches_of

SETTINGS = ImageIntake("vision", ImageConfig(max_patches=64), patch=4, merge=2)
TAKERS = {"vision": SETTINGS}
RECIPE = recipe_of(
    documents=200,
    seed=0,
    text_tokens=lognormal(20, 0.6, 1, 100),
    images_per_document=uniform(0, 4),
    image_height=uniform(4, 60),
    image_width=lognormal(20, 0.5, 4, 80),
    without_images=0.3,
    without_loss=0.25,
)


def _source(recipe: SyntheticRecipe = RECIPE, limit: int = 64) -> SyntheticSource:
    return SyntheticSource(recipe, 1, TAKERS, limit, vocabulary=50, mtp_depths=3)


@settings(deadline=None, max_examples=400)
@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 199), limit=st.integers(1, 100))
def test_a_document_is_a_function_of_seed_and_index_and_its_payload_agrees(seed: int, index: int, limit: int) -> None:
    recipe = recipe_of(
        200, seed, uniform(1, 60), **images(uniform(0, 4), uniform(4, 60), uniform(4, 60)), without_images=0.3,
        without_loss=0.3,
    )  # fmt: skip
    source = _source(recipe, limit)
    document, text = source.document(index), source.text(index)
    assert document == _source(recipe, limit).document(index)
    assert (document.source, document.index) == (1, index)
    assert 1 <= document.tokens == len(text.ids) <= limit
    assert (text.labels != NO_LABEL).sum() == document.loss_tokens
    assert document.mtp_loss_tokens == tuple((text.labels[ahead:] != NO_LABEL).sum() for ahead in (1, 2, 3))
    assert ((text.ids >= NO_TOKEN) & (text.ids < 50)).all()
    assert (text.ids == NO_TOKEN).sum() == sum(item.rows for item in document.items)
    for which, item in enumerate(document.items):
        assert (text.ids[item.position : item.position + item.rows] == NO_TOKEN).all()
        payload, reason = load_item_or_neutral(source, index, which, item)
        assert reason is None
        patches = patches_of(payload).patches
        assert patches.shape == (item.rows_in, SETTINGS.columns)
        assert np.abs(patches).max() <= 1
        np.testing.assert_array_equal(patches, patches_of(_source(recipe, limit).item(index, which)).patches)


def test_declared_shares_and_lengths_are_drawn() -> None:
    documents = [_source().document(index) for index in range(200)]
    assert 30 <= sum(d.loss_tokens == 0 for d in documents) <= 70
    assert 70 <= sum(not d.items for d in documents) <= 120
    assert len({d.tokens for d in documents}) > 30
    assert len({item.rows_in for d in documents for item in d.items}) > 10


def test_documents_seeds_and_items_differ() -> None:
    source, other = _source(), _source(recipe_of(200, 1, constant(30)))
    assert not np.array_equal(other.text(0).ids, other.text(1).ids)
    assert not np.array_equal(other.text(0).ids, _source(recipe_of(200, 2, constant(30))).text(0).ids)
    index = next(i for i in range(200) if len(source.document(i).items) >= 2)
    first, second = (patches_of(source.item(index, which)).patches[0] for which in range(2))
    assert not np.array_equal(first, second)


def test_distributions_keep_their_bounds() -> None:
    generator = np.random.default_rng(0)
    assert {uniform(2, 4).sample(generator) for _ in range(100)} == {2, 3, 4}
    drawn = [lognormal(100, 0.7, 30, 300).sample(generator) for _ in range(2000)]
    assert 30 <= min(drawn) <= max(drawn) == 300
    assert 90 < np.median(drawn) < 110


def test_images_without_a_module_are_refused() -> None:
    with pytest.raises(DataError, match="a modality without a module"):
        SyntheticSource(RECIPE, 0, {}, 64, 50)
    assert SyntheticSource(recipe_of(3, 0, constant(9)), 0, {}, 64, 50).document(2).tokens == 9


TWIN = replace(SETTINGS, module="twin", mark="<twin>")
DETAIL = ImageIntake("detail", ImageConfig(max_patches=64), patch=2, mark="<detail>")


def test_images_go_to_modules_by_their_shares_and_may_be_absent() -> None:
    recipe = RECIPE.model_copy(
        update=dict(documents=400, modules={"detail": 3.0, "vision": 1.0}, without={"vision": 0.5})
    )
    source = SyntheticSource(recipe, 0, TAKERS | {"detail": DETAIL}, 4096, 50)
    documents = [source.document(index) for index in range(len(source))]
    counts = Counter(item.module for document in documents for item in document.items)
    assert 0.10 < counts["vision"] / counts.total() < 0.19
    for document in documents[:50]:
        for which, item in enumerate(document.items):
            payload, reason = load_item_or_neutral(source, document.index, which, item)
            intake = source.intakes[item.module]
            assert reason is None
            assert isinstance(intake, ImageIntake)
            assert patches_of(payload).patches.shape == (item.rows_in, intake.columns)
            assert item.rows_in == item.rows * intake.merge**2


def test_the_modules_of_images_change_neither_their_sizes_nor_the_text() -> None:
    one, other = (
        SyntheticSource(
            RECIPE.model_copy(update={"modules": {name: 1.0}}), 0, {"vision": SETTINGS, "twin": TWIN}, 64, 50
        )
        for name in ("vision", "twin")
    )
    assert [one.document(i).tokens for i in range(50)] == [other.document(i).tokens for i in range(50)]
    assert {item.module for i in range(50) for item in other.document(i).items} == {"twin"}
