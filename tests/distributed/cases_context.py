"""Layers whose rows are spread over the ranks of a context-parallel group equal the plain ones."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.families import initial_of
from counterpoint.families.parts import parts_of
from counterpoint.models.batch import Batch, FeatureBatch
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.context import apply_context_parallel
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.initialize import initialize_
from tests.distributed.cases_tensor import CONFORMER, clip_rows, rows_of
from tests.gradients import gradient_of
from tests.unit.models.layer_from_elsewhere import HIDDEN, filled

TOLERANCE = 1e-12
CUT = ((7, 1, 4), (12,), ())
"""Clips that cross the borders of ranks, in 12 rows."""
WHOLE = ((3, 1), (4,), ())
"""Clips that each lie on one rank, by rank; a rank's rows are four."""


def context_parallel_equals_plain(rank: int, group: dist.ProcessGroup, size: int) -> None:
    """Compare rows and all gradients of a conformer with clips cut between ranks, and whole on them, and those of a
    layer that nothing knows; `size` divides 6."""
    for lengths in CUT:
        _compare(lengths, None, None, rank, group, size)
        _compare_elsewhere(lengths, TensorGroup(group, rank, size))
    whole = WHOLE[:size]
    starts = [4 * place + sum(clips[:i]) for place, clips in enumerate(whole) for i in range(len(clips))]
    own = Segments.build(whole[rank], 4)
    _compare([length for clips in whole for length in clips], starts, own, rank, group, size)


def _compare(
    lengths: Sequence[int],
    starts: Sequence[int] | None,
    own: Segments | None,
    rank: int,
    group: dist.ProcessGroup,
    size: int,
) -> None:
    rows = 12 if own is None else 4 * size
    clips = clip_rows(CONFORMER, rows, Segments.build(lengths, rows, starts=starts))
    mine = slice(rank * rows // size, (rank + 1) * rows // size)
    share = rows_of(clips, mine, Segments.build(lengths, rows, starts=starts, own=own))
    plain, local = _model(), _model()
    apply_context_parallel(local, TensorGroup(group, rank, size))
    expected, found = _outputs(plain, None, clips, slice(0, rows)), _outputs(local, None, share, mine)
    for port, out in expected.items():
        torch.testing.assert_close(found[port], out[mine], rtol=TOLERANCE, atol=TOLERANCE)
    _compare_gradients(plain, local, group, f"rank {rank} with clips {lengths}")


def _compare_elsewhere(lengths: Sequence[int], ranks: TensorGroup) -> None:
    rows = torch.arange(12.0 * HIDDEN, dtype=torch.float64).cos().view(12, HIDDEN)
    batch = FeatureBatch(12, Segments.build(lengths, 12))
    mine = slice(ranks.rank * 12 // ranks.size, (ranks.rank + 1) * 12 // ranks.size)
    plain, local = filled(), filled()
    apply_context_parallel(local, ranks)
    (expected,) = _outputs(plain, rows, batch, slice(0, 12)).values()
    (found,) = _outputs(local, rows[mine], batch, mine).values()
    torch.testing.assert_close(found, expected[mine], rtol=TOLERANCE, atol=TOLERANCE)
    _compare_gradients(plain, local, ranks.group, f"rank {ranks.rank} with documents {lengths}")


def _compare_gradients(plain: Chain, local: Chain, group: dist.ProcessGroup, what: str) -> None:
    whole = {name: gradient_of(parameter) for name, parameter in plain.named_parameters()}
    scale = max(gradient.abs().max().item() for gradient in whole.values())
    for name, parameter in local.named_parameters():
        assert parameter.grad is not None, f"{what}: {name} has no gradient"
        dist.all_reduce(parameter.grad, group=group)
        worst = (parameter.grad - whole[name]).abs().max().item()
        assert worst <= TOLERANCE * max(1.0, scale), f"{what}: {name} differs by {worst:.3g}"


def _model() -> Chain:
    with torch.device("meta"):
        chain = build_chain(parts_of(CONFORMER)).to(torch.float64)
    chain.to_empty(device="cpu")
    for buffer in chain.buffers():
        buffer.copy_(1.0 + torch.arange(buffer.numel()) * 0.1)
    rules = initial_of(CONFORMER.section)
    for name, parameter in chain.named_parameters():
        initialize_(parameter.detach(), whole_block(name, tuple(parameter.shape)), 3, "module", 4, rules)
        if parameter.ndim > 1:
            parameter.detach().mul_(10)
    return chain


def _outputs(chain: Chain, given: Tensor | None, batch: Batch, mine: slice) -> dict[str, Tensor]:
    """What leaves by each port, after a backward whose factors differ for every element of the whole."""
    outputs: dict[str, Tensor] = chain(given, batch)
    rows = batch.segments.rows
    losses = [(out * _factors(rows, out.shape[1])[mine]).sum() for out in outputs.values()]
    torch.stack(losses).sum().backward()
    return {port: out.detach() for port, out in outputs.items()}


def _factors(rows: int, width: int) -> Tensor:
    return torch.arange(rows * width, dtype=torch.float64).sin().view(rows, width)
