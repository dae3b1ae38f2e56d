"""What waits on the host under FSDP2: rows, and no weights, which are gathered again for backward anyway."""

from typing import Any
from unittest.mock import patch

from torch import Tensor

from counterpoint.families import rules_of
from counterpoint.models.chain import MAIN
from counterpoint.parallelize.apply import Parallelism
from counterpoint.parallelize.fsdp import local
from counterpoint.parallelize.offload import HostStore
from counterpoint.plan.activations import ActivationPolicy
from counterpoint.plan.layout import Layout
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.parallel_chains import parallel_chain
from tests.distributed.test_gathers import FLOAT64
from tests.unit.models.model_samples import HYBRID, text_batch


def test_weights_that_are_gathered_inside_of_a_layer_stay_where_they_are(pool: Pool) -> None:
    weights, rows = pool.run(_moved_task)
    assert weights == 0
    assert rows > 0


def _moved_task(member: Member) -> tuple[int, int] | None:
    """How many gathered weights and how many other tensors a forward has copied."""
    layout = Layout(module="text", ranks=tuple(range(8)), dp_shard=8, ep=2, reshard=False)
    how = Parallelism(
        precision=FLOAT64, rules=rules_of(HYBRID.section), has_experts=True, activations=ActivationPolicy(offloads=True)
    )
    chain = parallel_chain(member, HYBRID, [layout], how).chain
    for parameter in (*chain.parameters(), *chain.buffers()):
        local(parameter.detach()).fill_(0.1)
    moved: list[Tensor] = []
    pack = HostStore.pack

    def noted(self: HostStore, tensor: Tensor) -> Any:
        packed = pack(self, tensor)
        if packed is not tensor:
            moved.append(tensor)
        return packed

    with patch.object(HostStore, "pack", noted):
        loss = chain(None, text_batch(HYBRID, [5, 3], 2))[MAIN]
    gathered = {parameter.untyped_storage().data_ptr() for parameter in chain.parameters()}
    places = [tensor.untyped_storage().data_ptr() in gathered for tensor in moved]
    loss.backward()
    return (sum(places), len(places) - sum(places)) if member.world.rank == 0 else None
