"""Every named layout of an encoder of clips equals one plain process, and holds what its name says."""

import pytest

from counterpoint.plan.batch import Share
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import STEPS, verify_task
from counterpoint.verify.pool import Pool
from tests.parity.often import often
from tests.parity.speech import SPEECHES, speech_config
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize("name", often(SPEECHES, 3))
def test_speech_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, speech_config(name)))


def test_clips_lie_whole_on_context_ranks_or_are_cut() -> None:
    for name, cp, whole in (("cp2_of_whole_clips", 2, True), ("cp4_of_one_clip", 4, False)):
        spans = [(share, span) for share in _shares(name) for span in share.spans]
        assert spans, name
        for share, span in spans:
            rows = share.rows_in // cp
            assert (span.row_in // rows == (span.row_in + span.rows_in - 1) // rows) is whole, name


def test_clips_are_of_several_lengths_or_of_a_second_and_may_be_absent() -> None:
    lengths = {span.rows_in for share in _shares("tp2") for span in share.spans}
    assert len(lengths) > 3
    assert {span.rows_in for share in _shares("a_second_each") for span in share.spans} == {50}
    assert not any(share.spans for share in _shares("no_clip_at_all"))
    assert {bool(share.spans) for share in _shares("most_without_clips")} == {True, False}


def _shares(name: str) -> list[Share]:
    """Every lane's share of clips in every microbatch of every step."""
    plan, _models, corpus = prepare_run(speech_config(name))
    batches = [plan.batch(step, corpus.packs(step)) for step in range(STEPS)]
    return [share for batch in batches for lanes in batch.shares["audio"] for share in lanes]
