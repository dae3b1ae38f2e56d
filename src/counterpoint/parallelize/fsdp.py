"""Data parallelism of a stage: FSDP2 per part, gradients as sums, reduction as an action of its own.

Backward synchronises only if the reduce action comes right after it: `begin_reduction` lets the reduction start
there, so that it overlaps with the rest of backward; only `finish_reduction` waits for it, so that it also overlaps
with the next module's work. FSDP2 has no public call that reduces gradients accumulated without
synchronisation, so `reduce_gradients` runs its post-backward by hand, as torch's own pipelining does; this file is the
only one that touches FSDP2's internals (`_get_fsdp_state`, `_fsdp_param_group`, `_root_post_backward_final_callback`,
the forwards that it remembers, `post_forward_order` and `_post_forward_indices`, of a parameter `unsharded_param`,
`unsharded_accumulated_grad` and `reduce_dtype`, a DTensor's `_local_tensor`, and the class `ReduceScatter` and when it
is asked for memory, the same in torch 2.11 to 2.13).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter
from torch.distributed.tensor import DTensor, Shard

from counterpoint.config.training import PrecisionConfig
from counterpoint.models.chain import Chain
from counterpoint.models.seams import ReadsStored, StackedExperts, Wide
from counterpoint.parallelize.whole import RoundedCopy, copies_of, round_weights

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a name in the config."""
    return _DTYPES[name]


def shard_data_parallel(
    chain: Chain,
    mesh: DeviceMesh,
    expert_mesh: DeviceMesh | None,
    precision: PrecisionConfig,
    *,
    reshard: bool,
    recomputes: bool,
) -> None:
    """Apply FSDP2 to every part of a chain and to the chain itself, in place.

    `mesh` is (dp_shard,) or (dp_replicate, dp_shard); experts are sharded over `expert_mesh` (edp,), None only for a
    chain without experts. `Wide` modules, which compute in the parameters' dtype, have groups that cast nothing. With
    `reshard` parameters are gathered for each forward and backward, without it once for all microbatches of a step.
    Parts that others read, such as the embedding of a tied head, belong to the chain's own group, which is gathered as
    long as any of its parts runs. Each group costs host time in every pass, and its reduction waits for the one before.
    So without `reshard` consecutive small parts share a group, and unless layers are recomputed (`recomputes`), which
    runs them out of turn, all `Wide` modules of layers share one. Without `reshard`, experts that a single rank holds
    have no group at all: see `whole`.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=None if precision.compute == precision.parameters else dtype_of(precision.compute),
        reduce_dtype=dtype_of(precision.reduce),
        cast_forward_inputs=False,
    )
    shares_groups = not reshard and not recomputes
    whole: set[nn.Parameter] = set()
    for experts in (module for module in chain.modules() if isinstance(module, StackedExperts)):
        assert expert_mesh is not None, "a chain with experts has their mesh"
        if not reshard and expert_mesh.size() == 1 and isinstance(experts, ReadsStored):
            round_weights(experts, dtype_of(precision.compute), dtype_of(precision.reduce))
            whole |= set(experts.parameters())
        else:
            _shard_experts(experts, expert_mesh, policy, reshard)

    def shard(modules: Sequence[nn.Module], policy: MixedPrecisionPolicy) -> None:
        fully_shard(_unit(modules), mesh=mesh, mp_policy=policy, reshard_after_forward=reshard, ignored_params=whole)

    if policy.param_dtype is not None:
        wide = MixedPrecisionPolicy(reduce_dtype=dtype_of(precision.parameters), cast_forward_inputs=False)
        for modules in _wide(chain, shares_groups):
            shard(modules, wide)
    for parts in _units(chain, 0 if reshard else _UNIT):
        shard(parts, policy)
    shard([chain], policy)
    for sharded in _fsdp_modules(chain):
        sharded.set_force_sum_reduction_for_comms(True)
        held = expert_mesh if isinstance(sharded, StackedExperts) else mesh
        if held is not None and held.size() == 1:
            sharded.set_custom_reduce_scatter(_OfOneRank())
        else:
            sharded.set_gradient_divide_factor(1.0)


@final
class _OfOneRank(ReduceScatter):
    """The sum over a mesh of one rank: where FSDP2 has copied the gradients to, there the sums are.

    FSDP2 allocates what it copies to and, after that, what it sums into. With a gradient divide factor it would divide
    all gradients by it, and copy them again.
    """

    def __init__(self) -> None:
        self._copied: torch.Tensor | None = None

    def allocate(self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        copied, self._copied = self._copied, None
        if copied is None:
            copied = self._copied = torch.empty(size, dtype=dtype, device=device)
        assert tuple(copied.shape) == tuple(size), "what one rank sums is as large as its sum"
        return copied

    def __call__(self, *_arguments: object, **_options: object) -> None:
        raise AssertionError("a mesh of one rank sums nothing")


_UNIT = 2**26
"""Fewest parameters of a group that is large enough: 128 MiB in bfloat16, two thirds of a millisecond over NVLink, and
less than its host time in forward and backward."""

_TINY = 64
"""A part that has this many times fewer parameters than the layers before it, such as a norm, joins their group."""


def _unit(modules: Sequence[nn.Module]) -> Any:
    """The argument of `fully_shard` for modules that share a group."""
    return modules[0] if len(modules) == 1 else list(modules)


def _wide(chain: Chain, together: bool) -> list[list[nn.Module]]:
    """The `Wide` modules that share a group: those of layers if they are `together`, since every forward runs all of
    these; else each by itself."""
    of_layers = [part for name, part in chain.parts() if together and name.startswith("layers.")]
    shared = [module for part in of_layers for module in part.modules() if isinstance(module, Wide)]
    known = set(shared)
    alone = [[module] for module in chain.modules() if isinstance(module, Wide) and module not in known]
    return [*([shared] if shared else ()), *alone]


def _units(chain: Chain, least: int) -> list[list[nn.Module]]:
    """The parts that are gathered together: each by itself, except consecutive layers until they have `least`
    parameters, and tiny parts with the layers before them; with `least` 0 each by itself."""
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

    The experts' dim if `size` divides it, else another that it divides: few experts on many ranks need little padding.
    """
    return next((dim for dim, extent in enumerate(shape) if extent % size == 0), 0)


def _shard_experts(experts: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, reshard: bool) -> None:
    def placement(parameter: nn.Parameter) -> Shard:
        return Shard(expert_shard_dim(tuple(parameter.shape), mesh.size()))

    fully_shard(experts, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard, shard_placement_fn=placement)


def begin_accumulation(chain: nn.Module, reshard: bool) -> None:
    """Make the following backwards accumulate gradients locally; the chain's parameters have memory by now."""
    _set_backward(chain, reduces=False, reshard=reshard)


def settle_weights(chains: Iterable[nn.Module], device: torch.device) -> None:
    """Declare that all writes to the chains' weights before their next forward are queued by now: their gathers wait
    for these, and not for what other modules compute until then."""
    if device.type == "cuda":
        written = torch.cuda.Event()  # type: ignore[no-untyped-call]
        written.record()
        for chain in chains:
            _root(chain).set_post_optim_event(written)


def begin_reduction(chain: nn.Module) -> None:
    """Make the following backward, the last of a step, sum each part's gradients over the mesh as soon as it has them;
    `reduce_gradients` then sums the rest."""
    _set_backward(chain, reduces=True, reshard=True)
    _remember_last_forward(chain)


def reduce_gradients(chain: nn.Module, reached: bool) -> None:
    """Begin to sum those accumulated gradients over the mesh that backward has not, and reshard the parameters.

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
    """Accumulates gradients of a chain's weights that were computed outside of autograd.

    `reduce_gradients` finds them, whether the parameters are gathered or not; without FSDP2 they go to `.grad`.
    """

    def __init__(self, chain: nn.Module) -> None:
        self._chain = chain
        self._known: dict[torch.Tensor, Any] = {}

    def add(self, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add to the gradient of a weight, which is given as forward saw it, in the dtype of reduction.

        The caller gives up `gradient`: it may not write to it any more.
        """
        if weight not in self._known:
            # A gathered parameter is one object for good, but there is none before the first forward.
            self._known = {parameter.unsharded_param: parameter for parameter in _fsdp_parameters(self._chain)}
            self._known |= {copy.values: copy for copy in copies_of(self._chain).values()}
        sharded = self._known.get(weight)
        if isinstance(sharded, RoundedCopy):
            sharded.add(gradient)
        elif sharded is None or sharded.reduce_dtype in (None, weight.dtype):
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        elif sharded.unsharded_accumulated_grad is None:
            sharded.unsharded_accumulated_grad = gradient.to(sharded.reduce_dtype)
        else:
            sharded.unsharded_accumulated_grad.add_(gradient)


def release(chain: nn.Module) -> None:
    """Reshard every part after forwards without a backward, and forget these forwards."""
    for module in _sharded(chain).modules:
        module.reshard()
    # Before the first forward FSDP2 has no state to record it in.
    if any(group._post_forward_indices for group in _sharded(chain).groups):
        _remember(chain, ())


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a parameter or gradient, as a plain tensor that shares its memory and has no graph."""
    # What `to_local` returns outside of autograd, without the cost of disabling it for every parameter in every step.
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def _set_backward(chain: nn.Module, *, reduces: bool, reshard: bool) -> None:
    # After a last backward FSDP2 makes the device wait for all sums; here `finish_reduction` does that.
    _root(chain).set_is_last_backward(False)
    for module in _sharded(chain).modules:
        module.set_requires_gradient_sync(reduces, recurse=False)
        module.set_reshard_after_backward(reshard, recurse=False)


def _remember_last_forward(chain: nn.Module) -> None:
    """Let the backward of a step's last microbatch end where the forward of that microbatch began.

    FSDP2 prefetches against the order of all forwards; before the first part it would gather the last part of the
    previous microbatch, which is resharded by then and no longer needed.
    """
    ran = [group for group in _sharded(chain).groups if group._post_forward_indices]
    _remember(chain, sorted(ran, key=lambda group: group._post_forward_indices[-1]))


def _remember(chain: nn.Module, ran: Sequence[Any]) -> None:
    """Tell FSDP2 that these groups ran forward in this order, and nothing before."""
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
    """What every step reads of a sharded chain: its FSDP modules, its parameter groups, whose type FSDP2 does not
    export, and the parameters that need gradients."""

    modules: tuple[FSDPModule, ...]
    groups: tuple[Any, ...]
    trained: tuple[nn.Parameter, ...]


_KNOWN = "_counterpoint_sharded"
"""The attribute in which a chain keeps what was looked up, so that it is freed with the chain."""


def _sharded(chain: nn.Module) -> _Sharded:
    """Looked up once, after the parameters have memory: walking over modules in every step costs the host milliseconds.

    A parameter that FSDP2 does not manage is another object once it has memory.
    """
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
