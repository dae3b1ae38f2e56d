"""Data parallelism of a stage: FSDP2 per part, gradients as sums, reduction as an action of its own.

Backward synchronises only if the reduce action stands right behind it: `begin_reduction` lets it start
there, so that gradients travel while others are computed; only `finish_reduction` waits for them, so that they also
travel while the next module computes. FSDP2 has no public call that reduces gradients accumulated without
synchronisation, so `reduce_gradients` runs its post-backward by hand, as torch's own pipelining does; this file is the
only one that touches FSDP2's internals (`_get_fsdp_state`, `_fsdp_param_group`, `_root_post_backward_final_callback`,
the forwards that it remembers, `post_forward_order` and `_post_forward_indices`, and of a parameter `unsharded_param`,
`unsharded_accumulated_grad` and `reduce_dtype`, and a DTensor's `_local_tensor`, the same in torch 2.11 to 2.13).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from counterpoint.config.training import PrecisionConfig
from counterpoint.models.chain import Chain
from counterpoint.models.seams import StackedExperts, Wide

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a name in the config."""
    return _DTYPES[name]


def shard_data_parallel(
    chain: Chain, mesh: DeviceMesh, expert_mesh: DeviceMesh | None, precision: PrecisionConfig, reshard: bool
) -> None:
    """Apply FSDP2 to every part of a chain and to the chain itself, in place.

    `mesh` is (dp_shard,) or (dp_replicate, dp_shard); experts are sharded over `expert_mesh` (edp,), which only a chain
    without any does not need. What computes wide has a group of its own, that casts nothing. With
    `reshard` parameters are gathered for each forward and backward, without it once for all microbatches of a step.
    Parts that others read, such as the embedding of a tied head, belong to the chain's own group, which is gathered as
    long as any of its parts runs. Small parts behind each other share a group where they are gathered once, since
    each group costs the host time in every pass, and its reduction waits for the one before.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=None if precision.compute == precision.parameters else dtype_of(precision.compute),
        reduce_dtype=dtype_of(precision.reduce),
        cast_forward_inputs=False,
    )
    for module in chain.modules():
        if isinstance(module, StackedExperts):
            assert expert_mesh is not None, "a chain with experts has their mesh"
            _shard_experts(module, expert_mesh, policy, reshard)
        elif isinstance(module, Wide) and policy.param_dtype is not None:
            wide = MixedPrecisionPolicy(reduce_dtype=dtype_of(precision.parameters), cast_forward_inputs=False)
            fully_shard(module, mesh=mesh, mp_policy=wide, reshard_after_forward=reshard)
    for parts in _units(chain, 0 if reshard else _UNIT):
        unit: Any = parts if len(parts) > 1 else parts[0]
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)
    fully_shard(chain, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)
    for sharded in _fsdp_modules(chain):
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    begin_accumulation(chain, reshard)


_UNIT = 2**25
"""Parameters from which on a group is large enough: 64 MiB in bfloat16, a third of a millisecond over NVLink."""

_TINY = 64
"""A part that has this many times fewer parameters than the layers before it, such as a norm, joins their group."""


def _units(chain: Chain, least: int) -> list[list[nn.Module]]:
    """The parts that are gathered together: each by itself, but layers in a row until they have `least` parameters, and
    what is tiny with the layers in front of it; where `least` is 0, each by itself without exception."""
    units: list[list[nn.Module]] = []
    filled, has_layers = 0, False
    for name, part in chain.parts():
        size = sum(parameter.numel() for parameter in part.parameters())
        if name in chain.shared or not size:
            continue
        is_layer = name.startswith("layers.")
        if least and has_layers and ((is_layer and filled < least) or size * _TINY <= filled):
            units[-1].append(part)
            filled += size
        else:
            units.append([part])
            filled, has_layers = size, is_layer
    return units


def expert_shard_dim(shape: tuple[int, ...], size: int) -> int:
    """The dim along which FSDP2 cuts a stacked weight (experts, outputs, inputs) into `size` pieces.

    Whole experts where they divide, else a dim that divides; so few experts on many ranks are not mostly padding.
    """
    return next((dim for dim, extent in enumerate(shape) if extent % size == 0), 0)


def _shard_experts(experts: StackedExperts, mesh: DeviceMesh, policy: MixedPrecisionPolicy, reshard: bool) -> None:
    def placement(parameter: nn.Parameter) -> Shard:
        return Shard(expert_shard_dim(tuple(parameter.shape), mesh.size()))

    fully_shard(experts, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard, shard_placement_fn=placement)


def begin_accumulation(chain: nn.Module, reshard: bool) -> None:
    """Make the backwards that follow accumulate locally."""
    _set_backward(chain, reduces=False, reshard=reshard)


def settle_weights(chains: Iterable[nn.Module], device: torch.device) -> None:
    """Say that what is queued by now is all that writes weights before the next forward of each chain: its gathers wait
    for that, and not for what other modules compute until then."""
    if device.type == "cuda":
        written = torch.cuda.Event()  # type: ignore[no-untyped-call]
        written.record()
        for chain in chains:
            _root(chain).set_post_optim_event(written)


def begin_reduction(chain: nn.Module) -> None:
    """Make the backward that follows, the last of a step, sum each part's gradients over the mesh as soon as it has
    them; `reduce_gradients` then finds the rest."""
    _set_backward(chain, reduces=True, reshard=True)
    _remember_last_forward(chain)


def reduce_gradients(chain: nn.Module, reached: bool) -> None:
    """Begin to sum the accumulated gradients over the mesh, as far as backward has not, and reshard the parameters.

    `reached` says whether any microbatch ran in this step; it is the same on all ranks of the mesh. If none did,
    every gradient is zero and nothing is communicated.
    """
    if reached:
        begin_reduction(chain)
        for group in reversed(_sharded(chain).groups):
            # Where nothing is left to sum, torch 2.13 would still make the device wait for the sum before.
            if _has_gradients(group):
                group.post_backward()
            else:
                group.reshard()


def finish_reduction(chain: nn.Module, reached: bool) -> None:
    """Wait, on the device, until the sharded `.grad` of every trained parameter holds the sums."""
    if reached:
        _root(chain).set_is_last_backward(True)
        _root(chain)._get_fsdp_state()._root_post_backward_final_callback()
    for parameter in _sharded(chain).trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@final
class GradientHome:
    """Where gradients of a chain's weights belong that were computed outside of autograd.

    `reduce_gradients` finds them there, whether the parameters are gathered or not; a chain without FSDP2 has them in
    `.grad`.
    """

    def __init__(self, chain: nn.Module) -> None:
        self._chain = chain
        self._sharded: dict[torch.Tensor, Any] = {}

    def add(self, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add to the gradient of a weight, which is given as forward saw it, in the dtype of reduction.

        `gradient` is handed over: nobody else may write to it.
        """
        if weight not in self._sharded:
            # A gathered parameter is one object for good, but there is none before the first forward.
            self._sharded = {parameter.unsharded_param: parameter for parameter in _fsdp_parameters(self._chain)}
        sharded = self._sharded.get(weight)
        if sharded is None or sharded.reduce_dtype in (None, weight.dtype):
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        elif sharded.unsharded_accumulated_grad is None:
            sharded.unsharded_accumulated_grad = gradient.to(sharded.reduce_dtype)
        else:
            sharded.unsharded_accumulated_grad.add_(gradient)


def release(chain: nn.Module) -> None:
    """Reshard every part, after forwards that no backward follows, and forget these."""
    for module in _sharded(chain).modules:
        module.reshard()
    # Before the first forward FSDP2 has nothing to remember it in.
    if any(group._post_forward_indices for group in _sharded(chain).groups):
        _remember(chain, ())


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a parameter or gradient, as a plain tensor that shares its memory and has no graph."""
    # What `to_local` gives outside of autograd, without the cost of leaving it, for every parameter in every step.
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def _set_backward(chain: nn.Module, *, reduces: bool, reshard: bool) -> None:
    # At the end of a last one FSDP2 makes the device wait for all sums; that is for `finish_reduction` to say.
    _root(chain).set_is_last_backward(False)
    for module in _sharded(chain).modules:
        module.set_requires_gradient_sync(reduces, recurse=False)
        module.set_reshard_after_backward(reshard, recurse=False)


def _remember_last_forward(chain: nn.Module) -> None:
    """Let the backward of a step's last microbatch end where that one's forward began.

    FSDP2 gathers ahead against the order of all forwards; in front of the first part it would come to the last part of
    the microbatch before, which is resharded by then and which nobody needs any more.
    """
    ran = [group for group in _sharded(chain).groups if group._post_forward_indices]
    _remember(chain, sorted(ran, key=lambda group: group._post_forward_indices[-1]))


def _remember(chain: nn.Module, ran: Sequence[Any]) -> None:
    """Let FSDP2 know that these groups ran forward in this order, and of no forward before."""
    for group in _sharded(chain).groups:
        group._post_forward_indices.clear()
    for number, group in enumerate(ran):
        group._post_forward_indices.append(number)
    _root(chain)._get_fsdp_state()._comm_ctx.post_forward_order[:] = ran


def _has_gradients(group: Any) -> bool:
    """Whether backward left gradients in a group that are not summed."""
    return any(
        parameter.unsharded_accumulated_grad is not None or parameter.unsharded_param.grad is not None
        for parameter in group.fsdp_params
    )


def _root(chain: nn.Module) -> FSDPModule:
    assert isinstance(chain, FSDPModule), "shard_data_parallel comes first"
    return chain


def _fsdp_modules(chain: nn.Module) -> list[FSDPModule]:
    return [module for module in chain.modules() if isinstance(module, FSDPModule)]


@final
@dataclass(frozen=True)
class _Sharded:
    """What every step asks of a sharded chain: its FSDP modules, its groups of parameters that are gathered together,
    whose type FSDP2 does not export, and the parameters that need gradients."""

    modules: tuple[FSDPModule, ...]
    groups: tuple[Any, ...]
    trained: tuple[nn.Parameter, ...]


_KNOWN = "_counterpoint_sharded"
"""Where a chain keeps what was looked up: with it, so that it goes when the chain goes."""


def _sharded(chain: nn.Module) -> _Sharded:
    """Looked up once: walking over modules in every step costs the host milliseconds."""
    if _KNOWN not in chain.__dict__:
        modules = _fsdp_modules(chain)
        # Modules of one group share its state.
        states = dict.fromkeys(module._get_fsdp_state() for module in modules)
        groups = [state._fsdp_param_group for state in states if state._fsdp_param_group is not None]
        trained = tuple(parameter for parameter in chain.parameters() if parameter.requires_grad)
        chain.__dict__[_KNOWN] = _Sharded(tuple(modules), tuple(groups), trained)
    known: _Sharded = chain.__dict__[_KNOWN]
    return known


def _fsdp_parameters(chain: nn.Module) -> list[Any]:
    return [parameter for group in _sharded(chain).groups for parameter in group.fsdp_params]
