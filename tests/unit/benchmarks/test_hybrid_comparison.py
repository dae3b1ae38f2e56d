"""The hybrid's benchmark compares like with like: settings, models, tokens, FLOPs; and sorts kernels by their names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from comparison.hybrid_rows import combined, table, write_json
from comparison.hybrid_runs import parameters_of, parameters_of_peer, stream_of
from comparison.hybrid_settings import (
    SEQUENCE,
    HybridCut,
    check_peer_parameters,
    counted_config,
    hybrid_config,
    parse_hybrid_settings,
    peer_sizes,
)
from comparison.hybrid_stream import TokenStream
from comparison.kernel_groups import IDLE, GroupTime, group_of, grouped
from comparison.settings import SettingError
from comparison.stick import FLOPS_CHUNK, draw_batch
from counterpoint.plan.work import model_flops
from counterpoint.setup.run import build_plan

OURS = parse_hybrid_settings("ours", "lm")[0]


def test_what_is_no_kind_belongs_to_the_setting_before_it() -> None:
    settings = parse_hybrid_settings(
        "ours,experts=128,packed,modules.language.recompute=[M,E],ours,peer,balanced", "lm"
    )
    assert [setting.name for setting in settings] == [
        "ours,experts=128,packed,modules.language.recompute=[M,E]", "ours", "peer,balanced",
    ]  # fmt: skip
    assert settings[0].has("packed")
    assert settings[0].number("experts", 32) == 128
    assert not settings[1].has("packed")
    assert settings[2].is_peer


@pytest.mark.parametrize("text", ["balanced,ours", "ours,balancd", "peer,recompute=[M]", "ours,ours", "peer,a.b=1"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--settings"):
        parse_hybrid_settings(text, "lm")


def test_the_peer_has_no_tower() -> None:
    with pytest.raises(SettingError, match="peer with the workload vlm"):
        parse_hybrid_settings("ours,peer", "vlm")


@pytest.mark.parametrize("experts", [32, 128])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_peer_has_our_parameters_and_flops(world: int, experts: int) -> None:
    config, cut = hybrid_config(OURS, "lm", world, [], experts)
    sizes = peer_sizes(OURS, config)
    check_peer_parameters(parameters_of(config), parameters_of_peer(sizes))
    plan = build_plan(counted_config(config, FLOPS_CHUNK))
    batch = plan.batch(0, stream_of(config, OURS, cut, seed=0).packs(0))
    counted = sum(model_flops(plan, batch).values())
    assert counted == pytest.approx(sizes.flops_per_token(SEQUENCE) * world * SEQUENCE, rel=1e-12)
    assert round(counted / (world * SEQUENCE) / 1e9, 4) == {32: 9.2326, 128: 9.2450}[experts]
    with pytest.raises(ValueError, match="parameters: got"):
        check_peer_parameters(parameters_of(config), parameters_of_peer(replace(sizes, conv=5)))


def test_both_read_the_same_tokens_and_no_step_repeats() -> None:
    stream = TokenStream(HybridCut(lanes=2, sequences=2), 64, 512, seed=3, is_packed=False)
    packs = stream.packs(5)
    ids, labels = draw_batch(3, 5, range(4), 64, 512)
    for number, (document,) in enumerate(packs):
        text = stream.text(document.index)
        assert (text.ids == ids[number].numpy()).all()
        assert (text.labels == labels[number].numpy()).all()
    assert not torch.equal(ids, draw_batch(3, 6, range(4), 64, 512)[0])
    assert len({tuple(row.tolist()) for row in ids}) == 4


def test_packed_documents_fill_their_sequence_with_the_same_tokens() -> None:
    stream = TokenStream(HybridCut(lanes=1, sequences=3), 512, 512, seed=1, is_packed=True)
    packs = stream.packs(2)
    ids, _labels = draw_batch(1, 2, range(3), 512, 512)
    assert any(len(pack) > 1 for pack in packs)
    for number, pack in enumerate(packs):
        texts = [stream.text(document.index) for document in pack]
        assert [token for text in texts for token in text.ids] == ids[number].tolist()
        assert all((text.labels >= 0).sum() == one.loss_tokens > 0 for text, one in zip(texts, pack, strict=True))


def test_images_are_packed_whole_and_in_order() -> None:
    setting = parse_hybrid_settings("ours,sequences=2", "vlm")[0]
    config, cut = hybrid_config(setting, "vlm", 2, [], 32)
    stream = stream_of(config, setting, cut, seed=0)
    assert cut.total == 4
    first, second = stream.packs(0), stream.packs(1)
    documents = [document for pack in (*first, *second) for document in pack]
    assert sorted(document.index for document in documents) == list(range(len(documents)))
    assert all(0 < sum(d.tokens for d in pack) <= SEQUENCE for pack in (*first, *second))
    with_image = next(document for document in documents if document.items)
    assert stream.item(with_image.index, 0).rows == with_image.items[0].rows_in
    text = stream.text(with_image.index)
    assert len(text.ids) == with_image.tokens
    assert int((text.labels >= 0).sum()) == with_image.loss_tokens


def test_one_rank_can_be_the_tower_alone() -> None:
    setting = parse_hybrid_settings("ours,vision=1", "vlm")[0]
    config, cut = hybrid_config(setting, "vlm", 2, [], 32)
    assert config.modules["vision"].layout.ranks == (0,)
    assert config.modules["language"].layout.ranks == (1,)
    assert cut.total == 2


@pytest.mark.parametrize(
    ("kernel", "group"),
    [
        ("ncclDevKernel_SendRecv", "NCCL"),
        ("nvjet_tst_256x128_64x4_2x1_v_bz_TNT", "products"),
        ("void cutlass::device_kernel<GemmUniversal<GroupProblemShape>>", "products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma", "attention"),
        ("kernel_cutlass_kernel_flash_attncuteflash_bwd_sm90FlashAttentionBackwardSm90", "attention"),
        ("void at::native::indexFuncLargeIndex<c10::BFloat16>", "sort, gather, scatter"),
        ("triton_poi_fused_convert_element_type_mul_3", "compiled"),
        ("triton_red_fused_gather_sum_index_0", "sort, gather, scatter"),
        ("triton_per_fused_cumsum_exp_1", "scan and conv"),
        ("conv_silu_backward", "scan and conv"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void at::native::multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata>", "optimizer"),
        ("void at::native::vectorized_elementwise_kernel<4, MulFunctor>", "elementwise"),
        ("_update", "optimizer"),
        ("_copy", "sort, gather, scatter"),
        ("_shared_gradients", "scan and conv"),
        ("_copy_of_another", "copies"),
        ("something", "other"),
    ],
)
def test_kernels_are_grouped_by_name(kernel: str, group: str) -> None:
    assert group_of(kernel) == group


def test_groups_add_up() -> None:
    table_of = [(0.5, 3, "nvjet_a"), (0.25, 2, "nvjet_b"), (1.0, 1, "ncclDevKernel_AllGather")]
    assert list(grouped(table_of, idle=0.1).items()) == [
        ("NCCL", GroupTime(1.0, 1)), ("products", GroupTime(0.75, 5)), (IDLE, GroupTime(0.1, 0)),
    ]  # fmt: skip


def _launch(median: float, name: str = "ours") -> dict[str, Any]:
    row = {
        "name": name, "step_ms": [median - 1, median, median + 2], "step_ms_median": median, "step_ms_min": median - 1,
        "step_ms_max": median + 2, "tokens_per_s": 1e3 / median, "tflops_gpu": 100 / median,
        "peak_gib_by_rank": [median],
        "late_compilations_by_rank": [0], "loss_first_last": [12.0, 11.0], "p95_over_p50_per_flop": 1.0,
    }  # fmt: skip
    return {"gemm_tflops": 700.0, "gemm_readings": [700.0], "rows": [row, {"name": "peer", "failed": "no memory"}]}


def test_launches_are_combined(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(3)]
    for file, median in zip(files, (10.0, 30.0, 20.0), strict=True):
        write_json(file, _launch(median))
    record = combined(files)
    ours, peer = record["rows"]
    assert ours["step_ms_median"] == 20.0
    assert ours["step_ms_median_by_launch"] == [10.0, 30.0, 20.0]
    assert (ours["steps_timed"], ours["peak_gib_by_rank"], record["launches"]) == (9, [30.0], 3)
    assert peer["failed"] == "no memory"
    assert "failed: no memory" in table(record["rows"], 700.0)
