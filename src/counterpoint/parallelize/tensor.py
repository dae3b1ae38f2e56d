"""Tensor parallelism from outside: a table of parameters, and exchanges that replace a model's seams."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import gcd
from typing import final

import torch
from torch import nn

from counterpoint.errors import PlacementError
from counterpoint.kinds.rules import Role, TensorRule
from counterpoint.models.chain import Chain
from counterpoint.models.embedding import Lookup
from counterpoint.models.linear_loss import LinearLoss
from counterpoint.models.scored import AllRows, ScoredRows
from counterpoint.models.seams import (
    ChannelSum,
    Enter,
    Leave,
    LookupLeave,
    Mix,
    OwnChannels,
    OwnRows,
    OwnShare,
    RowsEnter,
    RowsLeave,
    StageEnter,
    StageLeave,
    WholeLane,
)
from counterpoint.parallelize.blocks import Reduction, Sharding, block_of
from counterpoint.parallelize.custom import cut_custom_linears
from counterpoint.parallelize.exchange import EnterExchange, LeaveExchange, RowExchange, TensorGroup, keep
from counterpoint.parallelize.groups import OwnGroups
from counterpoint.parallelize.products import GatheredProducts, ScatteredProduct, travel_of
from counterpoint.parallelize.transport import Travel
from counterpoint.parallelize.vocabulary import sharded_loss

_CUT_DIMS: Mapping[Role, int] = {"outputs": 0, "groups": 0, "inputs": 1, "words": 0}


def apply_tensor_parallel(
    chain: Chain,
    ranks: TensorGroup | None,
    sequence_parallel: bool,
    rules: Sequence[TensorRule],
    *,
    travel: Travel | None = None,
) -> dict[str, Sharding]:
    """Cut a chain on the meta device down to one rank's share, in place; returns the sharding of each parameter.

    The first of the `rules` that fits a parameter's name decides. `travel` is the transport of rows between ranks, by
    collectives unless given. On a single rank nothing changes and every parameter is a duplicate. Raises
    PlacementError for a parameter without a rule and for heads or widths that the number of ranks does not divide.
    """
    if ranks is None:
        return {name: Sharding(tuple(p.shape), "duplicate") for name, p in chain.named_parameters()}
    pieces = _divide_heads(chain, ranks)
    shardings = {
        name: _sharding(name, tuple(parameter.shape), ranks.size, sequence_parallel, rules, pieces)
        for name, parameter in chain.named_parameters()
    }
    words = _own_words(shardings, ranks)
    _replace_exchanges(
        chain, ranks, sequence_parallel, words, travel_of(ranks, overlap=False) if travel is None else travel
    )
    cut_custom_linears(chain, ranks)
    for name, sharding in shardings.items():
        _cut(chain, name, sharding.local_shape(ranks.size))
    return shardings


def _sharding(
    name: str,
    shape: tuple[int, ...],
    size: int,
    sequence_parallel: bool,
    rules: Sequence[TensorRule],
    pieces: Mapping[str, int],
) -> Sharding:
    role = next((rule.role for rule in rules if fnmatchcase(name, rule.pattern)), None)
    if role is None:
        raise PlacementError(
            f"parameter {name} has no rule in the tensor-parallel table, expected one since tp is {size}; "
            "add a rule or set tp to 1"
        )
    if role == "whole":
        return Sharding(shape, "duplicate")
    if role == "expert":
        return Sharding(shape, "shard")
    if role in ("rows", "share"):
        reduction: Reduction = "partial" if sequence_parallel or role == "share" else "duplicate"
        return Sharding(shape, reduction)
    dim = _CUT_DIMS[role]
    copied = pieces.get(name.rsplit(".", 2)[0]) if role == "groups" else None
    if copied is not None:
        return Sharding(shape, "partial", dim, copied)
    if role != "words" and shape[dim] % size:
        raise PlacementError(
            f"parameter {name} has {shape[dim]} {role}, expected a multiple of tp ({size}); change the width or tp"
        )
    return Sharding(shape, "shard", dim)


def _divide_heads(chain: Chain, ranks: TensorGroup) -> dict[str, int]:
    """Check and divide heads and groups, which may not be divisible although widths are.

    Returns the number of pieces of groups of which several ranks hold the same, by the layers that have them.
    """
    copied = {}
    for name, module in list(chain.named_modules()):
        if not isinstance(module, Mix):
            continue
        layer = name.rpartition(".")[0]
        size, counts = ranks.size, module.counts
        pieces = {what: gcd(count, size) if what == module.copied else size for what, count in counts.items()}
        for what, count in counts.items():
            if count % pieces[what]:
                raise PlacementError(
                    f"{layer} has {count} {what}, expected a multiple of tp ({size}); change {what} or tp"
                )
        module.counts = {what: count // pieces[what] for what, count in counts.items()}
        if module.copied is not None and pieces[module.copied] < size:
            copied[layer] = pieces[module.copied]
            if module.counts[module.copied] > 1:
                chain.set_submodule(name, OwnGroups(module, ranks.rank, size // copied[layer]))
    return copied


@dataclass(frozen=True, slots=True)
class _Words:
    first: int
    count: int


def _own_words(shardings: Mapping[str, Sharding], ranks: TensorGroup) -> _Words:
    """This rank's share of the vocabulary, without padding; empty in a chain that holds no words."""
    for name in ("embed.weight", "head.weight", "words.weight"):
        if name in shardings:
            block = block_of(name, shardings[name], ranks.rank, ranks.size, 0, 1)
            return _Words(first=ranks.rank * shardings[name].local_shape(ranks.size)[0], count=block.shape[0])
    return _Words(first=0, count=0)


def _replace_exchanges(
    chain: Chain, ranks: TensorGroup, sequence_parallel: bool, words: _Words, travel: Travel
) -> None:
    makers = _exchange_makers(ranks, sequence_parallel, words, travel)
    for name, module in list(chain.named_modules()):
        if type(module) in makers:
            chain.set_submodule(name, makers[type(module)]())


def _exchange_makers(
    ranks: TensorGroup, sequence_parallel: bool, words: _Words, travel: Travel
) -> dict[type[nn.Module], Callable[[], nn.Module]]:
    """The replacement of each seam of the models.

    Between stages rows are always cut over the ranks. With sequence parallelism they stay so in the residual stream and
    only sublayers see all of them (Korthikanti et al., 2022); without it the whole stage does.
    """
    vocabulary: dict[type[nn.Module], Callable[[], nn.Module]] = {
        Lookup: lambda: Lookup(words.first),
        LookupLeave: lambda: RowExchange(ranks.reduce_scatter, ranks.all_gather),
        LinearLoss: lambda: sharded_loss(ranks, words.first, words.count),
        WholeLane: lambda: RowExchange(ranks.all_gather, ranks.own_share),
        OwnShare: lambda: RowExchange(ranks.own_share, ranks.all_gather),
        # Rows stay cut equally up to the head, which gets all of them.
        ScoredRows: AllRows,
    }
    always = vocabulary | {
        OwnChannels: lambda: RowExchange(ranks.own_share, ranks.all_gather),
        # Each rank's gradient of the sum covers its own channels only.
        ChannelSum: lambda: RowExchange(ranks.all_reduce, ranks.all_reduce),
    }
    if sequence_parallel:
        return always | {
            Enter: lambda: GatheredProducts(ranks, travel),
            Leave: lambda: ScatteredProduct(ranks, travel),
        }
    return always | {
        Enter: lambda: EnterExchange(RowExchange(keep, ranks.all_reduce)),
        Leave: lambda: LeaveExchange(RowExchange(ranks.all_reduce, keep)),
        RowsEnter: lambda: RowExchange(ranks.own_share, ranks.all_gather),
        RowsLeave: lambda: RowExchange(ranks.all_gather, ranks.own_share),
        StageEnter: lambda: RowExchange(ranks.all_gather, ranks.own_share),
        OwnRows: lambda: RowsOfShare(ranks.size),
        StageLeave: lambda: RowExchange(ranks.own_share, ranks.all_gather),
    }


@final
class RowsOfShare(nn.Module):
    """A rank's number of own rows among rows that all ranks hold: an equal share."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, rows: int) -> int:
        return rows // self.size


def _cut(chain: Chain, name: str, shape: tuple[int, ...]) -> None:
    folder, _, leaf = name.rpartition(".")
    owner = chain.get_submodule(folder)
    whole = owner.get_parameter(leaf)
    assert whole.is_meta, "parameters are cut before they have values"
    local = torch.empty(shape, dtype=whole.dtype, device=whole.device)
    owner.register_parameter(leaf, nn.Parameter(local, requires_grad=whole.requires_grad))
