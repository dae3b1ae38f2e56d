"""AdamW written a second time for the reference, which shares none of its rules with the code under test."""

import hashlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.muon.spec import MuonSection

VECTORS = (
    "*.bias",
    "*norm.weight",
    "*_scale.weight",
    "*.dynamics.a_log",
    "*.dynamics.d",
    "*.dynamics.dt_bias",
)
"""The vectors among our models' parameters, which have no weight decay."""


def plain_adamw(
    section: AdamWSection, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW of whole parameters, each in a group of its own, updated one after the other."""
    if section.moments == "full":
        return torchs_adamw(section, parameters)
    groups = [group | {"name": name} for name, group in zip(parameters, _groups(section, parameters), strict=True)]
    return (RoundedMoments(section, groups),)


def torchs_adamw(
    section: AdamWSection | MuonSection, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[torch.optim.Optimizer, ...]:
    """The same by torch, which has no moments in bfloat16."""
    groups = _groups(section, parameters)
    return (torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, foreach=False),)


def _groups(section: AdamWSection | MuonSection, parameters: Mapping[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {"params": [one], "weight_decay": 0.0 if is_spared(section, name, one.dim()) else section.weight_decay}
        for name, one in parameters.items()
    ]


def is_spared(section: AdamWSection | MuonSection, name: str, dims: int) -> bool:
    """Whether a parameter of `dims` dims has no weight decay: a vector, or one that the config names.

    In our own models names tell vectors as well; in other models they do not.
    """
    return dims < 2 or any(fnmatchcase(name, pattern) for pattern in (*VECTORS, *section.no_decay))


class RoundedMoments(torch.optim.Optimizer):
    """AdamW whose moments become bfloat16 numbers after every update, each of the two neighbours with the probability
    that keeps the mean; groups have one parameter each and its `name`."""

    def __init__(self, section: AdamWSection, groups: list[dict[str, Any]]) -> None:
        self.section = section
        super().__init__(groups, {"lr": section.lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is None, "nothing is computed again"
        betas = self.section.betas
        for group in self.param_groups:
            (one,) = group["params"]
            state = self.state[one]
            updates = state["updates"] = state.get("updates", 0) + 1
            lots = _lots(group["name"], updates, one.numel())
            debiased = []
            halves = np.divmod(lots, 2**16)[::-1]
            for beta, power, key, half in zip(betas, (1, 2), ("first", "second"), halves, strict=True):
                exact = beta * state.get(key, 0.0) + (1.0 - beta) * one.grad**power
                debiased.append(exact / (1.0 - beta**updates))
                state[key] = _neighbour(exact, half)
            one -= group["lr"] * group["weight_decay"] * one
            one -= group["lr"] * debiased[0] / (debiased[1].sqrt() + self.section.eps)


def _lots(name: str, updates: int, count: int) -> np.ndarray:
    """A number below 2^32 for every element of a parameter: the low half decides for the first moment."""
    with np.errstate(over="ignore"):
        word = np.frombuffer(hashlib.blake2b(name.encode(), digest_size=4).digest(), "<u4")
        word = _scrambled(word + np.uint32(updates * 0x9E3779B9 % 2**32))
        upper, lower = np.divmod(np.arange(count, dtype=np.uint64), np.uint64(2**32))
        return _scrambled((lower.astype(np.uint32) + upper.astype(np.uint32) * np.uint32(0x9E3779B9)) ^ word)


def _scrambled(words: np.ndarray) -> np.ndarray:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        words = (words ^ (words >> np.uint32(shift))) * np.uint32(factor)
    return words


def _neighbour(exact: torch.Tensor, lots: np.ndarray) -> torch.Tensor:
    """The bfloat16 number next to each value in the direction of zero, or away from it if the lot, of 2^16, is at least
    as far from 2^16 as the value is from the former; in the values' own dtype."""
    values = exact.detach().float().cpu().numpy().reshape(-1)
    mantissa, exponent = np.frexp(np.abs(values).astype(np.float64))
    # A float32 has 16 bits more than a bfloat16, which has 8 with the first.
    scaled = mantissa * 2**8
    lower = np.floor(scaled)
    away = (scaled - lower) * 2**16 + lots >= 2**16
    chosen = np.copysign(np.ldexp(lower + away, exponent - 8), values)
    return torch.from_numpy(chosen).to(exact.dtype).to(exact.device).view(exact.shape)
