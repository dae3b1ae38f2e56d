"""The step line says what is known of a step in 120 columns, and nothing of what is not."""

from typing import Any

from counterpoint.train.metrics.status import status_of

BOTH = frozenset({"vision", "language"})


def module(rate: float, mfu: float | None = None, memory: int = 2**30) -> dict[str, Any]:
    return {"learning_rate": rate, "mfu_all": mfu, "peak_memory_bytes": memory, "imbalance": 1.0 + rate}


def values(vision: dict[str, Any], language: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "loss": 12.34567, "tokens_per_second": 1234567.8, "gradient_norm": 12.3456, **more,
        "modules": {"vision": vision, "language": language},
    }  # fmt: skip


def test_a_line_says_what_is_known() -> None:
    line = status_of(values(module(3e-3), module(3e-3, memory=13 * 2**28)), "loss", BOTH, 1 / 3)
    assert line == (
        "loss 12.3457", "lr 3.0e-3", "1,234,568 tokens/s", "norm 12.346", "peak 3.2 GiB", "bubble 33 %",
        "imbalance 1.00",
    )  # fmt: skip


def test_a_line_of_a_gpu_has_at_most_120_columns() -> None:
    known = module(3e-3, 0.2, memory=78 * 2**30)
    usual = {"loss": 0.858, "tokens_per_second": 98765, "gradient_norm": 0.9}
    line = status_of(values(known, known) | usual, "loss", BOTH, 1 / 3)
    assert len("step 560/560  " + "  ".join(line)) <= 120


def test_utilization_is_that_of_all_modules_where_a_peak_is_known() -> None:
    line = status_of(values(module(3e-3, 0.125), module(1e-5, 0.25)), "loss", BOTH, 0.05)
    assert "MFU 38 %" in line
    assert "lr 1.0e-5 to 3.0e-3" in line
    for unknown in (module(1), module(1, 0.25)):
        line = status_of(values(module(1), unknown), "loss", BOTH, 0.05)
        assert not any("MFU" in phrase for phrase in line)


def test_what_nothing_trains_has_no_rate() -> None:
    frozen = values(module(9.0), module(1e-4))
    assert "lr 1.0e-4" in status_of(frozen, "loss", frozenset({"language"}), 0.0)
    assert not any("lr" in phrase for phrase in status_of(frozen, "loss", frozenset(), 0.0))


def test_slow_ranks_stand_beside_the_speed() -> None:
    line = status_of(values(module(1.0), module(1.0), slow_ranks={"3": 2.14}), "loss", BOTH, 0.0)
    assert line.index("slow: rank 3 (2.1x)") == line.index("1,234,568 tokens/s") + 1


def test_groups_count_in_place_of_their_module() -> None:
    groups = {"projector.*": {"learning_rate": 2e-5}, "others": {"learning_rate": 4e-5}}
    line = status_of(values(module(4e-5) | {"groups": groups}, module(3e-5)), "loss", BOTH, 0.0)
    assert "lr 2.0e-5 to 4.0e-5" in line
