"""The comparison with FSDP2 compares like with like: settings, models, samples."""

import pytest

from comparison.runs import check_parameters
from comparison.settings import (
    LAYOUTS,
    Setting,
    SettingError,
    Workload,
    check_baseline,
    config_of,
    parse_settings,
)
from comparison.source import DrawnSource
from comparison.stick import SAMPLES, W, draw_counts
from counterpoint.setup.data import intakes_of
from counterpoint.setup.run import build_plan

MAIN, VARIED = Workload("main"), Workload("varied", merge=4)


def test_what_has_an_equals_sign_belongs_to_the_setting_before_it() -> None:
    settings = parse_settings("colocated:8,group=2,encoder=first,modules.language.recompute=[*,-],fsdp2:8", MAIN)
    assert [setting.name for setting in settings] == [
        "colocated:8,group=2,encoder=first,modules.language.recompute=[*,-]",
        "fsdp2:8",
    ]
    assert settings[0].options[-1] == ("modules.language.recompute", "[*,-]")
    assert [(setting.micro_batch, setting.is_baseline) for setting in settings] == [(8, False), (8, True)]


@pytest.mark.parametrize(
    "text", ["group=2", "colocate:8", "colocated:8,grup=2", "fsdp2:8,group=2", "varied", "fsdp2:2,fsdp2:2", "fsdp2:x"]
)
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--settings"):
        parse_settings(text, MAIN)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_layout_has_the_parameters_of_the_baseline_and_the_patch_embedding(kind: str) -> None:
    config, cut = config_of(Setting(kind, kind, 4), MAIN, 4, ["training.compile=false"])
    plan = build_plan(config)
    check_parameters(sum(facts.parameters for facts in plan.facts.values()), MAIN)
    assert cut.samples == (36 if kind == "disjoint13" else 32) == cut.lanes * cut.microbatches * 4
    assert plan.layouts["language"].dp == cut.lanes


@pytest.mark.parametrize("merge", [1, 4])
def test_the_varied_workload_has_them_too(merge: int) -> None:
    workload = Workload("varied", merge)
    config, _cut = config_of(Setting("varied:4", "varied", 4), workload, 4, [])
    check_parameters(sum(facts.parameters for facts in build_plan(config).facts.values()), workload)


def test_parameters_that_differ_are_noticed() -> None:
    with pytest.raises(ValueError, match="parameters: got 1657178112"):
        check_parameters(1657178112, MAIN)


@pytest.mark.parametrize("layout", ["colocated", "tp2", "tp4", "disjoint22"])
def test_a_lane_gets_the_samples_that_the_baseline_gives_its_ranks(layout: str) -> None:
    setting = parse_settings(f"varied:4,layout={layout},balance=none", VARIED)[0]
    config, cut = config_of(setting, VARIED, 4, [])
    plan = build_plan(config)
    draws = [draw_counts(seed) for seed in range(3)]
    source = DrawnSource(intakes_of(config), draws, VARIED.side)
    assert len(source) == 3 * SAMPLES
    for step in (1, 2, 4):
        batch = plan.batch(step, source.packs(step, cut))
        counts = draws[step % 3]
        assert sum(len(share.spans) for lanes in batch.shares["vision"] for share in lanes) == 4 * SAMPLES
        for lane in range(cut.lanes):
            spans = [span for lanes in batch.shares["language"] for span in lanes[lane].spans]
            got = [len(batch.documents[span.document].items) for span in spans]
            assert got == counts[lane * SAMPLES // cut.lanes : (lane + 1) * SAMPLES // cut.lanes]
        # The baseline counts as many, but for the first token of a sample without images.
        assert batch.loss_tokens == VARIED.text_tokens(SAMPLES) - counts.count(0)


def test_documents_are_images_in_front_and_text_behind() -> None:
    config, _cut = config_of(Setting("fixed:4", "fixed", 4), VARIED, 4, [])
    source = DrawnSource(intakes_of(config), [[2] * SAMPLES], VARIED.side)
    document, text = source.document(5), source.text(5)
    assert [(item.position, item.rows_in, item.rows) for item in document.items] == [(0, 1024, 256), (256, 1024, 256)]
    assert len(text.ids) == document.tokens == W.seq
    assert int((text.labels >= 0).sum()) == document.loss_tokens == W.seq - 512
    assert int(text.ids.max()) < W.text_vocab
    assert source.item(5, 1).rows == 1024


@pytest.mark.parametrize(("setting", "workload"), [("fsdp2:3", MAIN), ("fsdp2:16", MAIN), ("fsdp2-varied:2", VARIED)])
def test_micro_batches_that_the_baseline_does_not_make_are_refused(setting: str, workload: Workload) -> None:
    with pytest.raises(SettingError, match="expected"):
        check_baseline(parse_settings(setting, workload)[0], 4)


def test_samples_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SettingError, match="disjoint13:8: got 36 samples on 3 language lanes"):
        config_of(Setting("disjoint13:8", "disjoint13", 8), MAIN, 4, [])
