"""What metadata says of a loss before anything is read is what there is to read."""

import pytest

from counterpoint.losses import MAIN_LOSSES
from counterpoint.plan.samples import NO_LABEL
from counterpoint.setup.run import prepare_run
from tests.parity.layouts import named_config


@pytest.mark.parametrize("kind", MAIN_LOSSES)
def test_a_denominator_is_the_number_of_labels(kind: str) -> None:
    loss = MAIN_LOSSES[kind]
    plan, _models, corpus = prepare_run(named_config("one_rank"))
    for step in range(3):
        batch = plan.batch(step, corpus.packs(step))
        labels = [loss.labels(corpus.sources[document.source].text(document.index)) for document in batch.documents]
        assert loss.denominator(batch) == sum(int((own != NO_LABEL).sum()) for own in labels) > 0
