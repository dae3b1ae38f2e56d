"""Further losses written a second time for the reference, which shares none of their rules with the code under test."""

import math

import torch
from torch import Tensor

from counterpoint.losses.contrastive.spec import ContrastiveSection
from counterpoint.losses.regression.spec import RegressionSection
from counterpoint.losses.z_loss.spec import ZLossSection


def plain_z_loss(_section: ZLossSection, scores: Tensor, labels: Tensor) -> Tensor:
    """The sum of the squared log-sum-exp of scores (rows, vocab), over the rows with a label."""
    normalisers = [torch.log(torch.exp(row - row.max()).sum()) + row.max() for row in scores[labels >= 0]]
    return sum((one * one for one in normalisers), torch.zeros((), dtype=scores.dtype))


def plain_regression(_section: RegressionSection, row: Tensor, targets: Tensor, own: int) -> Tensor:
    """The mean squared difference between a row's columns and its target's."""
    difference = row - targets[own]
    return torch.dot(difference, difference) / len(row)


def plain_contrast(section: ContrastiveSection, row: Tensor, targets: Tensor, own: int) -> Tensor:
    """The loss of one item against its own target and all others, pair by pair."""
    scores = [section.scale * _cosine(row, target) + section.bias for target in targets]
    if section.form == "softmax":
        # By ratios to the own score, so that one target alone leaves no gradient, not even a rounding error.
        return torch.log(torch.stack([torch.exp(score - scores[own]) for score in scores]).sum())
    signs = [1.0 if number == own else -1.0 for number in range(len(scores))]
    losses = [-torch.log(torch.sigmoid(sign * score)) for sign, score in zip(signs, scores, strict=True)]
    return torch.stack(losses).sum()


def _cosine(row: Tensor, target: Tensor) -> Tensor:
    if min(_length(row), _length(target)) <= _SHORTEST:
        return row.new_zeros(())
    return torch.dot(row, target) / (torch.dot(row, row).sqrt() * torch.dot(target, target).sqrt())


def _length(vector: Tensor) -> float:
    return math.sqrt(sum(float(value) ** 2 for value in vector.detach()))


_SHORTEST = 1e-6
"""Length up to which a vector has no direction: its cosine is 0."""
