"""Muon written a second time for the reference: one matrix at a time, by its singular values instead of products."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch

from counterpoint.optimizers.muon.spec import MuonSection
from counterpoint.verify.adamw import is_spared, torchs_adamw

TABLES = ("embed.weight", "head.weight")
"""Names of embeddings and heads, which AdamW updates."""


class SingularValues(torch.optim.Optimizer):
    """Muon of whole matrices and of stacks of experts' matrices, each parameter in a group of its own."""

    def __init__(self, section: MuonSection, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.section = section
        decays = {n: 0.0 if is_spared(section, n, one.dim()) else section.weight_decay for n, one in parameters.items()}
        groups = [{"params": [one], "decay": decays[name]} for name, one in parameters.items()]
        super().__init__(groups, {"lr": section.lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is None, "nothing is computed again"
        mu = self.section.momentum
        for group in self.param_groups:
            (one,) = group["params"]
            history = self.state[one].setdefault("history", torch.zeros_like(one))
            history.mul_(mu).add_((1 - mu) * one.grad)
            ahead = mu * history + (1 - mu) * one.grad if self.section.nesterov else history
            height, width = one.shape[-2:]
            reach = self.section.rms * max(height, width) ** 0.5
            for matrix, along in zip(one.view(-1, height, width), ahead.view(-1, height, width), strict=True):
                matrix -= group["lr"] * (group["decay"] * matrix + reach * self._levelled(along))

    def _levelled(self, matrix: torch.Tensor) -> torch.Tensor:
        """Apply the polynomial of the Newton-Schulz iterations to each singular value of a matrix (outputs, inputs)."""
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        values = values / (matrix.square().sum().sqrt() + self.section.eps)
        for _ in range(self.section.iterations):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        levelled: torch.Tensor = (left * values) @ right
        return levelled


def plain_muon(section: MuonSection, parameters: Mapping[str, torch.nn.Parameter]) -> tuple[torch.optim.Optimizer, ...]:
    """An optimizer of hidden matrices and torch's AdamW of the other parameters, each if there are any."""
    hidden = {name: one for name, one in parameters.items() if is_hidden(section, name, one.dim())}
    others = {name: one for name, one in parameters.items() if name not in hidden}
    of_hidden = (SingularValues(section, hidden),) if hidden else ()
    return (*of_hidden, *(torchs_adamw(section, others) if others else ()))


def is_hidden(section: MuonSection, name: str, dims: int) -> bool:
    """Whether a parameter is a hidden matrix or a stack of experts' matrices, unless the config says otherwise."""
    if dims != (3 if ".experts." in name else 2) or name in TABLES:
        return False
    return all(not fnmatchcase(name, pattern) for pattern in section.adamw_for)
