"""What a rank knows of the other lanes of its module: whether all have as many rows."""

import pytest
import torch

from counterpoint.data.feed.reader import Reader
from counterpoint.models.batch import TextBatch
from counterpoint.setup.run import prepare_run
from tests.parity.layouts import named_config


@pytest.mark.parametrize(("name", "expected"), [("homogeneous_dp4", False), ("packed", True)])
def test_lanes_are_even_if_all_have_as_many_rows(name: str, expected: bool) -> None:
    plan, _models, corpus = prepare_run(named_config(name))
    found = []
    for step in range(3):
        batch = plan.batch(step, corpus.packs(step))
        for rank in plan.placement.active:
            read = Reader(plan, rank, corpus.sources, torch.float64).read(batch).batches
            for (module, microbatch), one in read.items():
                if isinstance(one, TextBatch):
                    rows = {share.rows_in for share in batch.shares[module][microbatch]}
                    assert one.is_even == (len(rows) == 1)
                    found.append(one.is_even)
    assert all(found) if expected else not all(found)
