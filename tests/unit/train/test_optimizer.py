"""The optimizer of a module against torch's plain one."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train.optimizer import Clipping, ModuleOptimizer, StageRanks
from counterpoint.train.parameters import LocalParameter

SHAPES = {"layers.0.mlp.up.weight": (5, 3), "layers.0.mlp.up.bias": (5,), "norm.weight": (3,), "embed.weight": (7, 3)}
ALONE = StageRanks(None, 0, torch.float64, torch.device("cpu"))
DECAYED = {"layers.0.mlp.up.weight"}
CONFIG = AdamWSection(lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)


def test_it_updates_as_torchs_adamw() -> None:
    ours, theirs = _parameters(), _parameters()
    optimizer = ModuleOptimizer(CONFIG, ours.values(), ALONE)
    plain = _plain_adamw(theirs)
    for step in range(5):
        gradients = _gradients(step)
        rate, scale = 1e-2 / (step + 1), 0.5 if step % 2 else 1.0
        _update(optimizer, ours, gradients, rate, scale)
        _update_plain(plain, theirs, {name: gradient * scale for name, gradient in gradients.items()}, rate)
    for name in SHAPES:
        torch.testing.assert_close(ours[name].value, theirs[name].value, rtol=1e-13, atol=1e-15, msg=name)


def test_groups_update_as_those_of_torch() -> None:
    groups = [{"match": "layers.*", "lr": 1.0, "weight_decay": 0.5}, {"match": "*.up.*"}, {"match": "embed.*"}]
    section = CONFIG.model_validate(CONFIG.model_dump() | {"groups": groups})
    ours, theirs = _parameters(), _parameters()
    optimizer, rates = ModuleOptimizer(section, ours.values(), ALONE), [0.1, 7.0, 0.2, 0.3]
    decays = {"layers.0.mlp.up.weight": 0.5}
    number = {"layers.0.mlp.up.weight": 0, "layers.0.mlp.up.bias": 0, "norm.weight": 3, "embed.weight": 2}
    plain = torch.optim.AdamW(
        [
            {"params": [p.parameter], "lr": rates[number[n]], "weight_decay": decays.get(n, 0.0)}
            for n, p in theirs.items()
        ],
        betas=CONFIG.betas, eps=CONFIG.eps, foreach=False, fused=False,
    )  # fmt: skip
    for step in range(3):
        for name, gradient in _gradients(step).items():
            ours[name].parameter.grad, theirs[name].parameter.grad = gradient.clone(), gradient * 0.5
        optimizer.step(rates, _clipping(0.5))
        plain.step()
    for name in SHAPES:
        torch.testing.assert_close(ours[name].value, theirs[name].value, rtol=1e-13, atol=1e-15, msg=name)


def test_a_step_drops_the_gradients() -> None:
    parameters = _parameters()
    _update(ModuleOptimizer(CONFIG, parameters.values(), ALONE), parameters, _gradients(0), 1e-2, 1.0)
    assert all(p.parameter.grad is None for p in parameters.values())


@pytest.mark.parametrize("others", [True, False])
def test_a_step_drops_the_gradients_of_shards_without_elements(others: bool) -> None:
    # They are views of a buffer with the gradients of a whole group.
    empty = LocalParameter("module", replace(whole_block("b", (3,)), shape=(0,)), nn.Parameter(torch.empty(0)), 1)
    empty.parameter.grad = torch.empty(0)
    parameters = _parameters() if others else {}
    _update(
        ModuleOptimizer(CONFIG, [*parameters.values(), empty], ALONE),
        parameters,
        _gradients(0) if others else {},
        1e-2,
        1.0,
    )
    assert empty.parameter.grad is None


def test_it_continues_from_moments_and_step() -> None:
    whole, parts = _parameters(), _parameters()
    straight, first = ModuleOptimizer(CONFIG, whole.values(), ALONE), ModuleOptimizer(CONFIG, parts.values(), ALONE)
    for step in range(4):
        _update(straight, whole, _gradients(step), 1e-2, 1.0)
    for step in range(2):
        _update(first, parts, _gradients(step), 1e-2, 1.0)
    second = ModuleOptimizer(CONFIG, parts.values(), ALONE)
    for (_, _, into), (_, _, saved) in zip(second.moments(), first.moments(), strict=True):
        into.copy_(saved)
    second.set_step(2)
    for step in range(2, 4):
        _update(second, parts, _gradients(step), 1e-2, 1.0)
    assert [name for name in SHAPES if not torch.equal(whole[name].value, parts[name].value)] == []


def test_a_broken_step_leaves_all_as_it_was() -> None:
    parameters, untouched = _parameters(), _parameters()
    optimizer, other = (
        ModuleOptimizer(CONFIG, parameters.values(), ALONE),
        ModuleOptimizer(CONFIG, untouched.values(), ALONE),
    )
    for name, gradient in _gradients(0).items():
        parameters[name].parameter.grad = gradient * torch.nan
    optimizer.step([1e-2], _clipping(1.0, is_broken=True))
    assert [name for name in SHAPES if not torch.equal(parameters[name].value, untouched[name].value)] == []
    # Its count of steps too: the next update is the first.
    _update(optimizer, parameters, _gradients(1), 1e-2, 1.0)
    _update(other, untouched, _gradients(1), 1e-2, 1.0)
    assert [name for name in SHAPES if not torch.equal(parameters[name].value, untouched[name].value)] == []


def test_moments_exist_before_the_first_step() -> None:
    moments = list(ModuleOptimizer(CONFIG, _parameters().values(), ALONE).moments())
    assert len(moments) == 2 * len(SHAPES)
    assert not any(tensor.any() for _parameter, _name, tensor in moments)


def test_a_rank_without_elements_takes_part_with_nothing() -> None:
    optimizer = ModuleOptimizer(CONFIG, [], ALONE)
    optimizer.step([1e-2], _clipping(1.0))
    assert list(optimizer.moments()) == []


def _parameters() -> dict[str, LocalParameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: LocalParameter(
            "module",
            whole_block(name, shape),
            nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator)),
            replicas=1,
        )
        for name, shape in SHAPES.items()
    }


def _gradients(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}


def _update(
    optimizer: ModuleOptimizer,
    parameters: dict[str, LocalParameter],
    gradients: dict[str, torch.Tensor],
    rate: float,
    scale: float,
) -> None:
    for name, gradient in gradients.items():
        parameters[name].parameter.grad = gradient.clone()
    optimizer.step([rate], _clipping(scale))


def _clipping(scale: float, is_broken: bool = False) -> Clipping:
    return Clipping(torch.tensor(scale, dtype=torch.float64), torch.tensor(is_broken))


def _plain_adamw(parameters: dict[str, LocalParameter]) -> torch.optim.AdamW:
    """Torch's optimizer with the groups written out by hand, one tensor after the other."""
    groups = [
        {"params": [p.parameter], "weight_decay": CONFIG.weight_decay if name in DECAYED else 0.0}
        for name, p in parameters.items()
    ]
    return torch.optim.AdamW(groups, lr=CONFIG.lr, betas=CONFIG.betas, eps=CONFIG.eps, foreach=False, fused=False)


def _update_plain(
    plain: torch.optim.AdamW, parameters: dict[str, LocalParameter], gradients: dict[str, torch.Tensor], rate: float
) -> None:
    for name, gradient in gradients.items():
        parameters[name].parameter.grad = gradient
    for group in plain.param_groups:
        group["lr"] = rate
    plain.step()
