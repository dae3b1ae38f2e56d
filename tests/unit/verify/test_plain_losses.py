"""The reference's further losses leave no rounding error where a gradient is zero."""

import pytest
import torch

from counterpoint.losses.contrastive.rows import contrast
from counterpoint.losses.contrastive.spec import ContrastiveSection
from counterpoint.verify.losses import plain_contrast


@pytest.mark.parametrize("seed", range(20))
def test_one_target_alone_leaves_no_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    section = ContrastiveSection(kind="contrastive", targets="targets", form="softmax", scale=7.0)
    row = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = plain_contrast(section, row, target, 0)
    (gradient,) = torch.autograd.grad(0.3 * loss, row)
    assert (float(loss.detach()), float(gradient.abs().max())) == (0.0, 0.0)
    ours = contrast(section, row[None], target, torch.zeros(1, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(0.3 * ours, row)
    assert float(gradient.abs().max()) == 0.0


def test_several_targets_are_those_of_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    section = ContrastiveSection(kind="contrastive", targets="targets", form="softmax", scale=7.0)
    row = torch.randn(6, generator=generator, dtype=torch.float64)
    ours = contrast(section, row[None], targets, torch.tensor([3]))
    torch.testing.assert_close(plain_contrast(section, row, targets, 3), ours, rtol=1e-12, atol=0)
