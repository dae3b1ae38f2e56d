"""Losses of items' rows, and what verify compares them with; what divides them is what there is to compare."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.data.feed.reader import Reader
from counterpoint.losses import item_losses
from counterpoint.losses.contrastive.spec import ContrastiveSection
from counterpoint.losses.kind import ItemLoss, TargetSection
from counterpoint.losses.regression.spec import RegressionSection
from counterpoint.models.batch import Compared
from counterpoint.setup.run import prepare_run
from counterpoint.train.further import further_denominators
from tests.parity.layouts import named_config, override

REGRESSION = RegressionSection(kind="regression", weight=0.5, targets="a")
MEANS = REGRESSION.model_copy(update={"of": "items"})
SIGMOID = ContrastiveSection(kind="contrastive", weight=0.5, targets="a", scale=2.0, bias=-0.5)
SOFTMAX = SIGMOID.model_copy(update={"form": "softmax"})


def _given(rows: int = 4, targets: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (rows, targets))
    values, compared = made
    return values, compared, torch.tensor([3, 0, 5, 1])[:rows]


def _expected(section: TargetSection, rows: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The formulas of the papers, written as theirs are."""
    if isinstance(section, RegressionSection):
        return F.mse_loss(rows, targets[own], reduction="sum") / rows.shape[1]
    assert isinstance(section, ContrastiveSection)
    scores = section.scale * F.cosine_similarity(rows[:, None], targets[None], dim=2) + section.bias
    labels = 2.0 * F.one_hot(own, len(targets)) - 1.0
    if section.form == "sigmoid":
        return -F.logsigmoid(labels * scores).sum()
    return -scores.log_softmax(dim=1)[torch.arange(len(own)), own].sum()


def _kind(section: TargetSection) -> ItemLoss:
    ((_section, kind),) = item_losses([section])
    return kind


@pytest.mark.parametrize("section", [REGRESSION, SIGMOID, SOFTMAX], ids=("regression", "sigmoid", "softmax"))
def test_they_are_the_papers(section: TargetSection) -> None:
    rows, targets, own = _given()
    expected = _expected(section, rows, targets, own)
    torch.testing.assert_close(_kind(section).build(section).of_rows(rows, targets, own), expected)
    plain = [_kind(section).plain_loss(section, row, targets, int(which)) for row, which in zip(rows, own)]
    torch.testing.assert_close(torch.stack(plain).sum(), expected)


@pytest.mark.parametrize("section", [REGRESSION, SIGMOID, SOFTMAX], ids=("regression", "sigmoid", "softmax"))
@pytest.mark.parametrize("denominator", [0.0, 3.0])
def test_of_no_row_all_is_zero(section: TargetSection, denominator: float) -> None:
    _rows, targets, own = _given(rows=0)
    left = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    given = Compared(none, none, none, targets[: 6 if denominator else 0], own, denominator)
    attached, mean = _kind(section).build(section)(left, given)
    assert mean == 0
    (gradient,) = torch.autograd.grad(attached.sum(), left)
    assert torch.equal(gradient, torch.ones_like(left))


def test_what_has_no_direction_has_no_gradient() -> None:
    """Its cosines are 0, as `verify` says as well; those of others stay what they are."""
    rows, targets, own = _given()
    rows[1] = 0
    rows.requires_grad_()
    found = _kind(SIGMOID).build(SIGMOID).of_rows(rows, targets, own)
    plain = [_kind(SIGMOID).plain_loss(SIGMOID, row, targets, int(which)) for row, which in zip(rows, own)]
    torch.testing.assert_close(found, torch.stack(plain).sum())
    (of_found,), (of_plain,) = torch.autograd.grad(found, rows), torch.autograd.grad(torch.stack(plain).sum(), rows)
    torch.testing.assert_close(of_found, of_plain)
    assert of_found.any(dim=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("section", [MEANS, SIGMOID], ids=("regression", "sigmoid"))
def test_a_loss_is_attached_to_the_rows_of_items_alone(section: TargetSection) -> None:
    """The first row and the last belong to none; the others are of two items."""
    left = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    _rows, targets, _own = _given()
    place, item = torch.tensor([1, 2, 3]), torch.tensor([0, 1, 1])
    given = Compared(place, item, torch.tensor([1, 2]), targets, torch.tensor([4, 2]), 7.0)
    attached, mean = _kind(section).build(section)(left, given)
    means = torch.stack([left[1], (left[2] + left[3]) / 2])
    expected = _expected(section, means, targets, torch.tensor([4, 2])) / 7.0
    torch.testing.assert_close(mean, expected.detach())
    assert torch.equal(attached, left)
    assert not attached._is_view()
    (of_loss,) = torch.autograd.grad(0.5 * expected, left)
    (found,) = torch.autograd.grad(attached.sum(), left)
    torch.testing.assert_close(found, 1.0 + of_loss)


@pytest.mark.parametrize("of", ["rows", "items"])
def test_a_denominator_is_the_number_of_what_is_compared(of: str) -> None:
    """Over all ranks and microbatches, in a layout that cuts rows and items."""
    losses: list[dict[str, Any]] = [
        {"kind": "regression", "targets": "a", "of": of},
        {"kind": "contrastive", "targets": "b"},
    ]
    config = override(named_config("cp2_encoder"), {"modules.vision.losses": losses})
    plan, _models, corpus = prepare_run(config)
    batch = plan.batch(0, corpus.packs(0))
    denominators = list(further_denominators(plan, batch).values())
    items = [item for document in batch.documents for item in document.items]
    assert denominators == [len(items) if of == "items" else sum(item.rows for item in items), len(items)]
    rows, seen = 0, set()
    for rank in plan.layouts["vision"].ranks:
        inputs = Reader(plan, rank, corpus.sources, torch.float64).read(batch)
        for (module, _microbatch), own in inputs.batches.items():
            if module == "vision":
                regression, contrast = own.compared  # type: ignore[union-attr]
                rows += len(regression.rows)
                seen |= set(contrast.own.tolist())
                assert (regression.denominator, contrast.denominator) == tuple(map(float, denominators))
                assert len(contrast.targets) == len(items)
    assert rows == sum(item.rows for item in items)
    assert seen == set(range(len(items)))
