"""The plain path: what ours computes on a GPU without its kernels, for comparison of what it learns."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from counterpoint.layers.attention import sublayer as attention
from counterpoint.layers.mamba import sublayer as mamba
from counterpoint.layers.moe import experts as moe
from counterpoint.models import dispatch as local
from counterpoint.models import permute
from counterpoint.optimizers.adamw import choice
from counterpoint.optimizers.adamw.update import AdamWUpdate
from counterpoint.parallelize import dispatch, fsdp


@contextmanager
def plain_path() -> Iterator[None]:
    """Within it, engines are built and step without kernels of ours: plain torch for convolutions, scans (but for the
    pass over their chunks), permutations and experts one by one, torch's own attention of padded documents, its fused
    AdamW, and FSDP2 for all experts. The config turns compilation off."""
    replaced: list[tuple[Any, str, Any]] = [
        (mamba, "has_kernels", _never), (mamba, "has_conv_kernel", _never),
        (attention, "choose_kernel", _nothing), (attention, "has_varlen", _never),
        (moe, "groups_of", lambda counts, *_others: counts.tolist()),
        (choice, "OnePassAdamW", lambda section, shards, team, _moments: AdamWUpdate(section, shards, team)),
        (fsdp, "ReadsStored", ()),
    ]  # fmt: skip
    for module in (permute, local, dispatch):
        for name, function in (("sort_slots", permute.sort_slots_plainly), ("copy_rows", _copy), ("sum_rows", _sum)):
            if name in vars(module):
                replaced.append((module, name, function))
    with ExitStack() as stack:
        for owner, name, other in replaced:
            stack.enter_context(patch.object(owner, name, other))
        yield


def _never(*_arguments: object) -> bool:
    return False


def _nothing(*_arguments: object) -> None:
    return None


def _copy(rows: Tensor, entries: Tensor, slots: int) -> Tensor:
    return rows.index_select(0, entries // slots)


def _sum(rows: Tensor, places: Tensor) -> Tensor:
    padded = torch.cat((rows, rows.new_zeros(1, rows.shape[1])))
    total = rows.new_zeros((places.shape[0], rows.shape[1]), dtype=torch.promote_types(rows.dtype, torch.float32))
    for slot in places.unbind(1):
        total += padded[slot]
    return total.to(rows.dtype)
