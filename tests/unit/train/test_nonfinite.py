"""Which documents a step that is not finite is blamed on, and what is kept of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.config.load import load_config
from counterpoint.data.order import Exclusion
from counterpoint.plan.samples import Document
from counterpoint.setup import prepare_run
from counterpoint.train.nonfinite import (
    MOST_CULPRITS,
    Finding,
    conclude,
    find_culprits,
    keep_exclusions,
    kept_exclusions,
)
from tests.parity.layouts import TINY


@settings(max_examples=40)
@given(st.integers(0, 40), st.data())
def test_halving_finds_each_document_that_is_not_finite(count: int, data: st.DataObject) -> None:
    documents = [Document(0, number, 4, 2) for number in range(count)]
    bad = data.draw(st.sets(st.integers(0, max(count - 1, 0)))) if count else set()
    tried = 0

    def is_finite(some: Sequence[Document]) -> bool:
        nonlocal tried
        tried += 1
        return not any(document.index in bad for document in some)

    found = find_culprits(documents, is_finite)
    assert [document.index for document in found] == sorted(bad)[:MOST_CULPRITS]
    assert tried <= 1 + 2 * max(count, 1).bit_length() * len(found)


def finding(culprits: int, is_next_finite: bool) -> Finding:
    """Of a step of the dense pair, in which so many of the first documents are not finite."""
    plan, corpus = prepare_run(load_config(TINY))
    batch = plan.batch(3, corpus.packs(3))
    broken = ("the loss", "the gradient of vision")
    return conclude(plan, batch, broken, batch.documents[:culprits], lambda: is_next_finite, corpus.sources)


def test_a_document_is_left_out_and_named() -> None:
    found = finding(1, is_next_finite=True)
    (document,) = found.excluded
    assert found.names == (f"document {document.index} of synthetic dataset 0",)
    assert found.sentence == (
        "step 3: the loss and the gradient of vision are not finite, nothing was updated; not finite by itself, and "
        f"left out from now on, is {found.names[0]}; look at its files and resume, or set training.skip_nonfinite to "
        "go on in such steps"
    )


@pytest.mark.parametrize(("culprits", "is_next_finite"), [(8, False), (1, False), (0, True)])
def test_nothing_is_left_out_where_documents_are_not_the_reason(culprits: int, is_next_finite: bool) -> None:
    """Every document of the step is named by the ranks that have its rows, and the remedies are those of a model."""
    found = finding(culprits, is_next_finite)
    assert found.excluded == ()
    assert len(found.names) == 8
    assert all("(microbatch " in name and name.endswith("ranks 1)") for name in found.names)
    assert found.sentence.endswith("a lower learning rate, a lower training.clip_norm or float32 precision")
    assert ("of the next step are not finite either, so it is the model" in found.said) is (culprits > 0)


def test_all_documents_of_a_step_can_be_the_reason_if_the_next_step_is_finite() -> None:
    assert len(finding(8, is_next_finite=True).excluded) == 8


def test_what_is_kept_is_for_the_same_data_and_a_run_that_goes_on(tmp_path: Path) -> None:
    config, kept = load_config(TINY, [f"run.dir={tmp_path}"]), (Exclusion(0, 7, 3), Exclusion(0, 9, 4))
    assert kept_exclusions(config) == ()
    keep_exclusions(config, kept)
    assert kept_exclusions(config) == kept
    assert kept_exclusions(load_config(TINY, [f"run.dir={tmp_path}", "checkpoint.resume=none"])) == ()
    assert kept_exclusions(load_config(TINY, [f"run.dir={tmp_path}", "run.seed=5"])) == kept
    assert kept_exclusions(load_config(TINY, [f"run.dir={tmp_path}", "data.sequence_tokens=47"])) == ()
