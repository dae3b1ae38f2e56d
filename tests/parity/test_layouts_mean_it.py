"""The named layouts hold what their names say: a case whose condition never comes up would pass for nothing."""

from collections.abc import Sequence

from counterpoint.plan.batch import BatchPlan, Share
from counterpoint.plan.samples import Pack
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import STEPS
from tests.parity.layouts import LAYOUTS, named_config

Planned = tuple[tuple[Pack, ...], BatchPlan]


def test_there_are_enough_and_they_span_worlds_and_microbatches() -> None:
    configs = [named_config(name) for name in LAYOUTS]
    assert len(configs) >= 30
    assert {config.world.size for config in configs} == set(range(1, 9))
    assert {config.schedule.microbatches for config in configs} == set(range(1, 9))
    assert {config.schedule.kind for config in configs} == {"1f1b", "gpipe"}


def test_an_encoder_rank_has_an_empty_share_beside_full_ones() -> None:
    shares = [[bool(share.spans) for share in lanes] for lanes in _shares("empty_encoder_shares", "vision")]
    assert any(any(lanes) and not all(lanes) for lanes in shares)


def test_images_lie_whole_on_context_ranks_or_are_cut() -> None:
    for name, cp, whole in (("cp2_encoder_of_whole_images", 2, True), ("cp4_encoder_of_one_image", 4, False)):
        for lanes in _shares(name, "vision"):
            for share in lanes:
                rows = share.rows_in // cp
                ends = [(span.row_in // rows, (span.row_in + span.rows_in - 1) // rows) for span in share.spans]
                assert all((first == last) is whole for first, last in ends), name


def test_all_or_some_microbatches_have_no_image() -> None:
    assert not any(share.spans for lanes in _shares("no_image_at_all", "vision") for share in lanes)
    assert {any(share.spans for share in lanes) for lanes in _shares("most_without_images", "vision")} == {True, False}


def test_all_or_some_microbatches_have_no_loss_token() -> None:
    assert [batch.loss_tokens for _packs, batch in _planned("no_loss_token_at_all")] == [0] * STEPS
    has_loss = {
        any(batch.documents[span.document].loss_tokens for share in lanes for span in share.spans)
        for _packs, batch in _planned("some_without_loss")
        for lanes in batch.shares["language"]
    }
    assert has_loss == {True, False}


def test_packs_hold_several_documents() -> None:
    for name in ("packed", "packed_dp3"):
        assert any(len(pack) > 1 for packs, _batch in _planned(name) for pack in packs), name
    assert all(len(pack) == 1 for packs, _batch in _planned("dp3_to_dp2") for pack in packs)


def test_more_cells_than_packs_leaves_a_language_lane_without_rows() -> None:
    assert not all(share.spans for lanes in _shares("more_cells_than_packs", "language") for share in lanes)


def _planned(name: str) -> list[Planned]:
    plan, _models, corpus = prepare_run(named_config(name))
    return [(corpus.packs(step), plan.batch(step, corpus.packs(step))) for step in range(STEPS)]


def _shares(name: str, module: str) -> list[Sequence[Share]]:
    """The lanes of every microbatch of every step."""
    return [lanes for _packs, batch in _planned(name) for lanes in batch.shares[module]]
