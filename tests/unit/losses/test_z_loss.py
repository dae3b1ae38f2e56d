"""The z-loss, and what verify compares it with."""

import torch

from counterpoint.losses import score_losses
from counterpoint.losses.z_loss.spec import ZLossSection
from counterpoint.plan.samples import NO_LABEL

SECTION = ZLossSection(kind="z_loss", weight=0.25)


def test_it_is_the_papers() -> None:
    """log^2 of the sum of the exponentials of all scores."""
    scores = torch.tensor([[0.0, 1.0, -2.0], [30.0, 31.0, 29.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    labels = torch.tensor([2, 0, NO_LABEL])
    expected = scores[:2].exp().sum(dim=1).log() ** 2
    ((_section, kind),) = score_losses([SECTION])
    term = kind.build(SECTION)
    assert term.weight == 0.25
    torch.testing.assert_close(term.of(scores[:2].logsumexp(dim=1), scores[:2, 0]), expected, rtol=1e-14, atol=0)
    plain = kind.plain_sum(SECTION, scores, labels)
    torch.testing.assert_close(plain, expected.sum(), rtol=1e-14, atol=0)
