"""How evenly the experts of each layer are loaded, from the rows that each of them saw."""

import pytest
import torch

from counterpoint.train.engine import _loads

CPU = torch.device("cpu")


def test_each_layer_has_its_least_and_its_most_over_its_mean() -> None:
    counts = {"a": torch.tensor([1, 3, 4, 8]), "b": torch.tensor([5, 5]), "c": torch.tensor([0, 0, 0])}
    assert _loads(counts, CPU).tolist() == pytest.approx([0.25, 2.0, 1.0, 1.0, 0.0, 0.0])
    assert _loads(counts, CPU).dtype == torch.float64


def test_without_experts_there_are_none() -> None:
    assert _loads({}, CPU).tolist() == []
