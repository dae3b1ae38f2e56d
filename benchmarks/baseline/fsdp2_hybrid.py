"""Peer: the hybrid language model trained with plain FSDP2 and expert parallelism.

    torchrun --nproc-per-node=2 fsdp2_hybrid.py --experts 32
    BENCH_TINY=1 torchrun --nproc-per-node=2 fsdp2_hybrid.py            # dry run, CPU

fully_shard on every layer, bf16 parameters and float32 gradient reduction, gathered once a step; experts on all ranks
(`--ep` of them share a layer, FSDP2 shards over the rest), dropless, with torch's grouped products and an asynchronous
all_to_all beside the shared expert; everything between products and collectives compiled; fused AdamW on float32
shards, which also divides by the clipped norm. Tokens are drawn anew for each step, by a Zipf-like distribution.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from common import (TINY, StepTimer, device, emit, gather, gemm_tflops, init_distributed, log0, memory_gib,
                    reset_peak_memory, use_attention_backend)
from hybrid_model import FULL, NO_LABEL, SMALL, HybridModel, Kernels, Sizes, initialize

ZIPF = 1.0
"""Token of rank r has a share in proportion to 1 / (r + 10) ** ZIPF."""

PREFETCHED = 2
"""Layers whose parameters are gathered ahead: the host waits for row counts in every mixture."""


@cache
def _token_ends(vocab: int) -> np.ndarray:
    shares = 1.0 / (np.arange(vocab) + 10.0) ** ZIPF
    return np.cumsum(shares) / shares.sum()


@cache
def _ids(seed: int, vocab: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(vocab)


def token_of_share(shares: np.ndarray, seed: int, vocab: int) -> np.ndarray:
    """The tokens below which these shares, 0 to 1, of all tokens lie. Frequent tokens have ids all over."""
    return _ids(seed, vocab)[np.searchsorted(_token_ends(vocab), shares).clip(max=vocab - 1)]


def draw_tokens(seed: int, step: int, sequence: int, rows: int, vocab: int) -> np.ndarray:
    """The tokens int64 (rows,) of one of a step's sequences; no two sequences are alike."""
    return token_of_share(np.random.default_rng([seed, step, sequence]).random(rows), seed, vocab)


def draw_batch(seed: int, step: int, sequences: range, rows: int, vocab: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and labels int64 (sequences, rows); the last row has no label."""
    ids = torch.from_numpy(np.stack([draw_tokens(seed, step, one, rows, vocab) for one in sequences]))
    labels = torch.full_like(ids, NO_LABEL)
    labels[:, :-1] = ids[:, 1:]
    return ids, labels


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class HybridTrainer:
    """Takes steps of one microbatch; every rank calls the same methods with its own sequences."""

    def __init__(self, sizes: Sizes, *, ep: int | None = None, compile: bool = True, reshard: bool = False,
                 forced: bool = False, lr: float = 1.0e-4, betas=(0.9, 0.999), weight_decay: float = 0.05,
                 clip: float = 1.0, groups: dict | None = None) -> None:
        world, rank = dist.get_world_size(), dist.get_rank()
        ep = ep or world
        if world % ep or sizes.experts % ep:
            raise ValueError(f"ep: got {ep} with {world} ranks and {sizes.experts} experts, expected a divisor of both")
        groups = {} if groups is None else groups
        group, across = self._groups(groups, world, rank, ep)
        self.sizes, self.clip, self.world = sizes, clip, world
        with torch.device("meta"):
            self.model = HybridModel(sizes, Kernels(compile), group, ep, forced)
        # Local experts differ by rank; everything else is counted once.
        experts = sum(p.numel() for layer in self.model.mixtures for p in layer.experts.parameters())
        self.parameters = sum(p.numel() for p in self.model.parameters()) + experts * (ep - 1)
        mesh = groups.setdefault("mesh", init_device_mesh("cpu" if TINY else "cuda", (world,)))
        self.model.to_empty(device=device())
        initialize(self.model, sizes, first_expert=rank % ep * (sizes.experts // ep))
        self._shard(mesh, across, ep, reshard)
        self.rates = (lr, betas, weight_decay)
        self.optimizer: torch.optim.Optimizer | None = None
        self.losses: list[torch.Tensor] = []

    @staticmethod
    def _groups(groups: dict, world: int, rank: int, ep: int):
        """The group of this rank's all-to-all, apart from FSDP2's, and the mesh of ranks with the same experts."""
        if ep not in groups:
            rows = [range(first, first + ep) for first in range(0, world, ep)]
            columns = [range(first, world, ep) for first in range(ep)]
            made = {kind: [(ranks, dist.new_group(list(ranks))) for ranks in several]
                    for kind, several in (("row", rows), ("column", columns if ep < world else []))}
            own = {kind: next((g for ranks, g in several if rank in ranks), None) for kind, several in made.items()}
            across = None
            if ep < world:
                ranks = next(ranks for ranks in columns if rank in ranks)
                across = DeviceMesh.from_group(own["column"], "cpu" if TINY else "cuda", mesh=list(ranks))
            groups[ep] = own["row"], across
        return groups[ep]

    def _shard(self, mesh, across, ep: int, reshard: bool) -> None:
        model = self.model
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        self.replicated = [p for layer in model.layers for p in layer.replicated]
        self.own = [] if across is not None else [p for layer in model.mixtures for p in layer.experts.parameters()]
        ignored = set(self.replicated) | set(self.own)
        if across is not None:
            for layer in model.mixtures:
                fully_shard(layer.experts, mesh=across, mp_policy=policy, reshard_after_forward=reshard)
        units = [model.embed, *model.layers, model.head]
        for unit in units:
            fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard, ignored_params=ignored)
        fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard, ignored_params=ignored)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Gradients are sums: the loss is divided by the tokens of all ranks.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        for number, unit in enumerate(units):
            if following := units[number + 1 : number + 1 + PREFETCHED]:
                unit.set_modules_to_forward_prefetch(following)

    def _optimize(self, lr: float, betas, weight_decay: float) -> None:
        """AdamW on the shards as plain tensors, which share FSDP2's memory: DTensors would cost the host time."""
        own = set(self.replicated)
        pairs = [(p, nn.Parameter(local(p.detach())), name) for name, p in self.model.named_parameters()]
        pairs = [pair for pair in pairs if pair[1].numel()]
        self.pairs = [(p, shard) for p, shard, _name in pairs]
        self.shards = [shard for p, shard in self.pairs if p not in own]
        self.copies = [shard for p, shard in self.pairs if p in own]
        decays = {shard: p.dim() > 1 and not name.startswith("embed") for p, shard, name in pairs}
        parts = [([s for s, d in decays.items() if d], weight_decay), ([s for s, d in decays.items() if not d], 0.0)]
        self.optimizer = torch.optim.AdamW(
            [{"params": shards, "weight_decay": decay} for shards, decay in parts], lr=lr, betas=betas, fused=True)

    def step(self, ids: torch.Tensor, labels: torch.Tensor, loss_tokens: float, sequences: float) -> None:
        """Train on ids and labels (B, S) of this rank; all ranks together have `loss_tokens` labels and `sequences`."""
        loss, balance = self.model(ids, labels)
        mean = loss / loss_tokens
        (mean + balance * (self.sizes.balance / sequences)).backward()
        self._sum_replicated()
        self._update()
        self._balance()
        # The mean of what ranks note is the loss of all.
        self.losses.append(mean.detach() * self.world)

    def _sum_replicated(self) -> None:
        if self.world > 1 and self.replicated:
            flat = torch.cat([p.grad.flatten() for p in self.replicated])
            dist.all_reduce(flat)
            for p, piece in zip(self.replicated, flat.split([p.numel() for p in self.replicated])):
                p.grad = piece.view_as(p)

    @torch.no_grad()
    def _update(self) -> None:
        if self.optimizer is None:  # FSDP2 may move shards in its first forward.
            self._optimize(*self.rates)
        for p, shard in self.pairs:
            shard.grad = local(p.grad)
        squares = [torch.stack(torch._foreach_norm([s.grad for s in shards])).square().sum() if shards else 0.0
                   for shards in (self.shards, self.copies)]
        square = squares[0] + squares[1] / self.world
        if self.world > 1:
            dist.all_reduce(square)
        self.norm = square.sqrt()
        self.optimizer.grad_scale = (self.norm / self.clip).clamp(min=1.0)
        self.optimizer.step()
        for p, shard in self.pairs:
            p.grad = shard.grad = None
        for p in self.model.parameters():
            p.grad = None

    @torch.no_grad()
    def _balance(self) -> None:
        """The expert bias moves towards an even load."""
        mixtures = self.model.mixtures
        if not mixtures:
            return
        counts = torch.stack([layer.counts for layer in mixtures])
        if self.world > 1:
            dist.all_reduce(counts)
        wide = counts.double()
        moves = (wide.mean(1, keepdim=True) - wide).sign() * self.sizes.bias_rate
        for layer, move in zip(mixtures, moves):
            layer.bias += move.to(layer.bias.dtype)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--experts", type=int, default=SMALL.experts if TINY else 32)
    parser.add_argument("--ep", type=int)
    parser.add_argument("--sequence", type=int, default=64 if TINY else 8192)
    parser.add_argument("--sequences", type=int, default=1, help="of a rank")
    parser.add_argument("--attention", default="cudnn")
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=TINY)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3 if TINY else 40)
    args = parser.parse_args()
    rank, world = init_distributed()
    use_attention_backend(args.attention)
    sizes = replace(SMALL if TINY else FULL, experts=args.experts)
    trainer = HybridTrainer(sizes, ep=args.ep, compile=not args.eager)
    own = range(rank * args.sequences, (rank + 1) * args.sequences)
    batches = [[t.to(device()) for t in draw_batch(0, step, own, args.sequence, sizes.vocab)]
               for step in range(args.warmup + args.steps)]
    sequences = world * args.sequences
    reset_peak_memory()
    timer = StepTimer()
    for number, (ids, labels) in enumerate(batches):
        if number == args.warmup:
            dist.barrier()
            timer.mark()
        trainer.step(ids, labels, sequences * (args.sequence - 1), sequences)
        if number >= args.warmup:
            timer.mark()
        if number == 0:
            log0("first step done")
    everyone = gather({"seconds": timer.seconds(), "memory": memory_gib(),
                       "losses": [trainer.losses[0].item(), trainer.losses[-1].item()]})
    steps = [max(column) for column in zip(*(one["seconds"] for one in everyone))]
    median, tokens = statistics.median(steps), sequences * args.sequence
    emit({"name": "fsdp2_hybrid", "world": world, "experts": sizes.experts, "parameters": trainer.parameters,
          "gradient_norm_last": trainer.norm.item(),
          "step_ms_median": round(median * 1e3, 1), "step_ms_all": [round(s * 1e3, 1) for s in steps],
          "tokens_per_s": round(tokens / median),
          "tflops_gpu": round(tokens * sizes.flops_per_token(args.sequence) / median / world / 1e12, 1),
          "gemm_peak_tflops": round(gemm_tflops(), 1), "memory_gib": [one["memory"] for one in everyone],
          "loss_first_last": [sum(one["losses"][i] for one in everyone) / world for i in (0, 1)]})
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
