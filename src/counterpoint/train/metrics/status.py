"""The step line, made from the record of a step."""

from collections.abc import Iterator, Mapping
from typing import Any

GIB = 2**30


def status_of(values: Mapping[str, Any], loss: str, trained: frozenset[str], bubble: float) -> tuple[str, ...]:
    """The phrases of a step line, the most important first; unknown values have none.

    `values` are the recorded values, where the loss has the key `loss`. `trained` are the modules with a learning rate.
    `bubble` is the planned share of idle time.
    """
    modules: Mapping[str, Mapping[str, Any]] = values["modules"]
    return tuple(
        phrase
        for phrase in (
            f"loss {values[loss]:.4f}",
            _rates([rate for name in modules if name in trained for rate in _rates_of(modules[name])]),
            f"{values['tokens_per_second']:,.0f} tokens/s",
            *_slow(values.get("slow_ranks", {})),
            *(f"{name} {value:.4g}" for name, value in values.get("losses", {}).items()),
            _utilization([module["mfu_all"] for module in modules.values()]),
            f"norm {values['gradient_norm']:.3f}",
            f"peak {max(module['peak_memory_bytes'] for module in modules.values()) / GIB:.1f} GiB",
            f"bubble {100 * bubble:.0f} %",
            f"imbalance {max(float(module['imbalance']) for module in modules.values()):.2f}",
        )
        if phrase
    )


def _rates_of(module: Mapping[str, Any]) -> list[float]:
    """The learning rates of a module's parameter groups, or of the module if it has none."""
    groups: Mapping[str, Mapping[str, float]] = module.get("groups", {})
    return [group["learning_rate"] for group in groups.values()] or [module["learning_rate"]]


def _rates(rates: list[float]) -> str:
    """The learning rate, or the smallest and the largest if there are several."""
    if not rates:
        return ""
    low, high = min(rates), max(rates)
    return f"lr {_power(low)}" if low == high else f"lr {_power(low)} to {_power(high)}"


def _power(value: float) -> str:
    """A number such as `3.0e-4`, of constant width."""
    digits, _e, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def _utilization(shares: list[float | None]) -> str:
    """Model FLOPs of all modules over the peak FLOPs of all ranks; empty if that is unknown."""
    known = [share for share in shares if share is not None]
    return f"MFU {100 * sum(known):.0f} %" if known and len(known) == len(shares) else ""


def _slow(ranks: Mapping[str, float]) -> Iterator[str]:
    return (f"slow: rank {rank} ({ratio:.1f}x)" for rank, ratio in ranks.items())
