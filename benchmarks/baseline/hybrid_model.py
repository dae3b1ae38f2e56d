"""The peer's model: a causal hybrid of Mamba-2, mixtures of experts and attention, in plain PyTorch.

The defaults are the language model of the 20-layer Nemotron-style recipe: pattern M (Mamba-2), E (experts), * (attention),
a residual stream that every layer norms and adds to, no rope, untied vocabulary. Shapes: N rows of all sequences, B
sequences of S rows, H hidden.

Whatever is not a matrix product or a collective lies in functions of tensors that are compiled once and serve all
layers of a kind. Rows are permuted by gathers whose backward is a gather too, never by atomic additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

FLOPS_CHUNK = 128
"""Rows of a chunk for which the scan's FLOPs are counted, whatever an implementation takes."""

NO_LABEL = -100


@dataclass(frozen=True)
class Sizes:
    pattern: str = "MEMEM*EMEMEM*EMEMEM*"
    hidden: int = 2688
    vocab: int = 131072
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    mamba_heads: int = 64
    mamba_head_dim: int = 64
    groups: int = 8
    state: int = 128
    conv: int = 4
    chunk: int = 64
    experts: int = 128
    top_k: int = 6
    ffn: int = 1856
    shared_ffn: int = 3712
    scale: float = 2.5
    balance: float = 1.0e-4
    bias_rate: float = 1.0e-3
    eps: float = 1.0e-5

    @property
    def inner(self) -> int:
        """Channels of all heads of Mamba."""
        return self.mamba_heads * self.mamba_head_dim

    @property
    def mixed(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.state

    def flops_per_token(self, sequence: int) -> float:
        """Model FLOPs of a training step for each token of a sequence: 3 x forward, a product counted as two.

        Causal attention counts the pairs that a query sees, itself included: half of the square. Every expert that a
        token is routed to counts, no recomputation, no embedding, no elementwise arithmetic.
        """
        counts = {letter: self.pattern.count(letter) for letter in "ME*"}
        mamba = self.hidden * (2 * self.inner + 2 * self.groups * self.state + self.mamba_heads) + self.inner * self.hidden
        moe = self.hidden * (self.experts + 2 * self.top_k * self.ffn + 2 * self.shared_ffn)
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        products = counts["M"] * mamba + counts["E"] * moe + counts["*"] * attention + self.hidden * self.vocab
        scan = 2 * FLOPS_CHUNK * (self.groups * self.state + self.inner) + 4 * self.inner * self.state
        filters = 2 * self.conv * self.mixed
        pairs = 4 * self.heads * self.head_dim * (sequence + 1) / 2
        return 3.0 * (2 * products + counts["M"] * (scan + filters) + counts["*"] * pairs)


FULL = Sizes()
SMALL = Sizes(pattern="ME*E", hidden=64, vocab=512, heads=4, kv_heads=2, head_dim=16, mamba_heads=8, mamba_head_dim=16,
              groups=2, state=16, chunk=16, experts=8, top_k=2, ffn=32, shared_ffn=64)


# ---- functions of tensors, compiled once for all layers of a kind


@cache
def compiled(function):
    return torch.compile(function, fullgraph=True, dynamic=False)


@cache
def compiled_for_rows(function):
    """Compiled once for any number of rows, the first dim of every argument."""
    inner = torch.compile(function, fullgraph=True)

    def call(*tensors):
        if tensors[0].shape[0] < 2:  # A compiler makes variants for 0 and 1.
            return function(*tensors)
        for tensor in tensors:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return inner(*tensors)

    return call


class Kernels:
    """The functions below, compiled or as they are."""

    def __init__(self, compile: bool) -> None:
        def of(function, make=compiled):
            return make(function) if compile else function

        self.mamba, self.attention, self.head = of(mamba_layer), of(attention_layer), of(head_loss)
        self.route, self.up, self.down = of(route), of(shared_up), of(shared_down)
        self.expand, self.gather_sum, self.weigh, self.weigh_back = of(expand), of(gather_sum), of(weigh), of(weigh_back)
        self.take = of(take, compiled_for_rows)
        self.activate, self.activate_back = of(relu2, compiled_for_rows), of(relu2_back, compiled_for_rows)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def rms_norm(x, weight, eps):
    x_wide = x.to(wide(x.dtype))
    return (x_wide * torch.rsqrt(x_wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def mamba_layer(x, norm, w_in, conv, conv_bias, a_log, dt_bias, skip, gate_norm, w_out, sizes: tuple[int, ...], eps: float):
    """x (B, S, H) -> x + mamba(norm(x)); `sizes` are heads, head_dim, groups, state and chunk."""
    heads, head_dim, groups, state, chunk = sizes
    inner = heads * head_dim
    z, xbc, dt = F.linear(rms_norm(x, norm, eps), w_in).split((inner, inner + 2 * groups * state, heads), -1)
    rows, width = x.shape[1], conv.shape[1]
    padded = F.pad(xbc, (0, 0, width - 1, 0))
    filtered = conv_bias.to(wide(x.dtype))
    for k in range(width):
        filtered = filtered + padded[:, k : k + rows].to(filtered.dtype) * conv[:, k]
    xs, b, c = F.silu(filtered).to(x.dtype).split((inner, groups * state, groups * state), -1)
    step = F.softplus(dt.to(dt_bias.dtype) + dt_bias)
    xs = xs.unflatten(-1, (heads, head_dim))
    y = scan(xs, b.unflatten(-1, (groups, state)), c.unflatten(-1, (groups, state)), step, -a_log.exp() * step, chunk)
    y = (y + xs * skip[:, None].to(x.dtype)).flatten(2)
    gated = (y.to(wide(x.dtype)) * F.silu(z.to(wide(x.dtype)))).unflatten(-1, (groups, -1))
    normed = (gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + eps)).flatten(2).to(x.dtype) * gate_norm
    return x + F.linear(normed, w_out)


def scan(x, b, c, step, decay, chunk: int):
    """The recurrence of Mamba-2, chunk by chunk (Dao and Gu, 2024): x (B, S, h, p), b and c (B, S, g, n), step and decay
    (B, S, h) in at least float32 -> (B, S, h, p). Each batched product reads and writes contiguous matrices."""
    batch, rows, heads, p = x.shape
    g, n = b.shape[2:]
    r, q = heads // g, min(chunk, rows)
    k, m = rows // q, batch * (rows // q) * g
    dtype = x.dtype
    total = decay.view(batch, k, q, g, r).cumsum(2)
    xs = (x.to(step.dtype) * step[..., None]).view(batch, k, q, g, r, p)
    by_head = xs.to(dtype).permute(0, 1, 3, 4, 2, 5).reshape(m * r, q, p)
    to_end = (total[:, :, -1:] - total).exp()
    ended = (xs * to_end[..., None]).to(dtype).permute(0, 1, 3, 2, 4, 5).reshape(m, q, r * p)
    bs, cs = (t.reshape(batch, k, q, g, n).transpose(2, 3).reshape(m, q, n) for t in (b, c))
    # Inside a chunk.
    t = total.permute(0, 1, 3, 4, 2).reshape(m, r, q)
    earlier = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()
    left = (t[..., :, None] - t[..., None, :]).masked_fill(~earlier, -torch.inf).exp()
    scores = torch.bmm(cs, bs.transpose(1, 2))
    inside = torch.bmm((scores[:, None].to(left.dtype) * left).to(dtype).reshape(m * r, q, q), by_head)
    # Across chunks: what the state at each chunk's start holds of every earlier chunk.
    states = torch.bmm(bs.transpose(1, 2), ended)
    ends = total[:, :, -1].permute(0, 2, 3, 1).reshape(batch * g * r, k)
    through = ends.cumsum(-1)
    before = torch.ones(k, k, dtype=torch.bool, device=x.device).tril(-1)
    kept = ((through - ends)[:, :, None] - through[:, None, :]).masked_fill(~before, -torch.inf).exp().to(dtype)
    chunks_last = states.view(batch, k, g, n, r, p).permute(0, 2, 4, 1, 3, 5).reshape(batch * g * r, k, n * p)
    entering = torch.bmm(kept, chunks_last).view(batch, g, r, k, n, p).permute(0, 3, 1, 4, 2, 5).reshape(m, n, r * p)
    read = torch.bmm(cs, entering).view(batch, k, g, q, r, p).permute(0, 1, 3, 2, 4, 5)
    out = inside.view(batch, k, g, r, q, p).permute(0, 1, 4, 2, 3, 5) + read * total.exp()[..., None].to(dtype)
    return out.reshape(batch, rows, heads, p)


def attention_layer(x, norm, w_qkv, w_out, heads: int, kv_heads: int, eps: float):
    """x (B, S, H) -> x + attention(norm(x)), causal."""
    qkv = F.linear(rms_norm(x, norm, eps), w_qkv)
    q, k, v = (t.transpose(1, 2) for t in qkv.unflatten(-1, (heads + 2 * kv_heads, -1)).split((heads, kv_heads, kv_heads), 2))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
    return x + F.linear(mixed.transpose(1, 2).flatten(2), w_out)


def head_loss(x, norm, weight, labels, eps: float):
    """The sum of the cross entropies of x (B, S, H); labels int64 (B, S), NO_LABEL without a loss."""
    logits = F.linear(rms_norm(x, norm, eps), weight).flatten(0, 1)
    return F.cross_entropy(logits.to(wide(logits.dtype)), labels.flatten(), ignore_index=NO_LABEL, reduction="sum")


def route(x, norm, weight, bias, top_k: int, scale: float, eps: float, forced: bool):
    """x (B, S, H) -> normed rows (N, H), weights (N, k), the order of (row, choice) pairs by expert and its inverse,
    rows of each expert (experts,), and the balance loss summed over sequences."""
    experts, sequence = weight.shape[0], x.shape[1]
    normed = rms_norm(x, norm, eps).flatten(0, 1)
    scores = F.linear(normed.to(weight.dtype), weight).sigmoid()
    if forced:
        places = torch.arange(normed.shape[0] * top_k, device=x.device)
        chosen = (places % experts).view(-1, top_k)
    else:
        chosen = torch.topk(scores.detach() + bias, top_k, dim=-1).indices
    weights = scores.gather(1, chosen)
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * scale
    flat = chosen.flatten()
    order = torch.sort(flat.to(torch.int32), stable=True).indices
    inverse = torch.empty_like(order).scatter(0, order, torch.arange(order.shape[0], device=x.device))
    in_sequence = (chosen.view(-1, sequence * top_k, 1) == torch.arange(experts, device=x.device)).sum(1)
    shares = scores / (scores.sum(-1, keepdim=True) + 1e-20)
    factor = experts / (top_k * sequence**2)
    balance = (shares.view(-1, sequence, experts).sum(1) * in_sequence * factor).sum()
    return normed, weights, order, inverse, in_sequence.sum(0), balance


def shared_up(normed, weight):
    return F.relu(F.linear(normed, weight)).square()


def shared_down(inner, weight):
    return F.linear(inner, weight)


def expand(rows, order, top_k: int):
    """(N, H) -> (N k, H): the row of each (row, choice) pair, in their order."""
    return rows[order // top_k]


def take(rows, index):
    return rows[index]


def gather_sum(rows, inverse, top_k: int):
    """(N k, H) -> (N, H): the sum of the k rows that belong to each row."""
    return rows[inverse].unflatten(0, (-1, top_k)).to(wide(rows.dtype)).sum(1).to(rows.dtype)


def weigh(answers, weights, x, shared, inverse):
    """x + shared + the weighted sum of each row's answers: answers (N k, H), shared (N, H), x (B, S, H)."""
    shape = (*x.shape[:2], weights.shape[1])
    own = answers[inverse].unflatten(0, shape).to(weights.dtype)
    sums = (own * weights.view(shape)[..., None]).sum(2)
    return (x.to(weights.dtype) + shared.view(x.shape) + sums).to(x.dtype)


def weigh_back(gradient, answers, weights, order, inverse):
    top_k = weights.shape[1]
    of_answers = (gradient[order // top_k] * weights.flatten()[order][:, None]).to(answers.dtype)
    own = answers[inverse].unflatten(0, weights.shape).to(weights.dtype)
    return of_answers, (own * gradient[:, None].to(weights.dtype)).sum(-1)


def relu2(rows):
    return F.relu(rows).square()


def relu2_back(gradient, rows):
    return gradient * 2 * F.relu(rows)


# ---- permutations, exchanges and grouped products, with their gradients


class Expand(torch.autograd.Function):
    """Copies of each row, one for each of its experts, sorted by expert; backward gathers the copies and sums them."""

    @staticmethod
    def forward(ctx, rows, order, inverse, top_k, kernels):
        ctx.save_for_backward(inverse)
        ctx.top_k, ctx.kernels = top_k, kernels
        return kernels.expand(rows, order, top_k)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.kernels.gather_sum(gradient, *ctx.saved_tensors, ctx.top_k), None, None, None, None


class Permute(torch.autograd.Function):
    """Rows in another order; `inverse` leads back."""

    @staticmethod
    def forward(ctx, rows, index, inverse, kernels):
        ctx.save_for_backward(inverse)
        ctx.kernels = kernels
        return kernels.take(rows, index)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.kernels.take(gradient, *ctx.saved_tensors), None, None, None


class Weigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, answers, weights, x, shared, order, inverse, kernels):
        ctx.save_for_backward(answers, weights, order, inverse)
        ctx.kernels = kernels
        return kernels.weigh(answers, weights, x, shared, inverse)

    @staticmethod
    def backward(ctx, gradient):
        rows = gradient.flatten(0, 1)
        of_answers, of_weights = ctx.kernels.weigh_back(rows, *ctx.saved_tensors)
        return of_answers, of_weights, gradient, rows, None, None, None


class Relu2(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, kernels):
        ctx.save_for_backward(rows)
        ctx.kernels = kernels
        return kernels.activate(rows)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.kernels.activate_back(gradient, *ctx.saved_tensors), None


class Exchange:
    """Rows of one all-to-all there and back: `give` and `take` count the rows of each rank."""

    def __init__(self, give: list[int], take: list[int], group) -> None:
        self.give, self.take, self.group = give, take, group
        self.work = self.gradient = None

    def start(self, rows: Tensor, give: list[int], take: list[int]) -> Tensor:
        out = rows.new_empty((sum(take), *rows.shape[1:]))
        self.work = dist.all_to_all_single(out, rows.contiguous(), take, give, group=self.group, async_op=True)
        return out

    def finish(self) -> None:
        self.work.wait()
        self.work = None


class Start(torch.autograd.Function):
    """Begins an exchange, which `Finish` waits for; what is computed in between overlaps with it.

    Backward the same: autograd runs the latest node first, so Finish begins the exchange of gradients, and Start waits.
    """

    @staticmethod
    def forward(ctx, rows, exchange):
        ctx.exchange = exchange
        return exchange.start(rows, exchange.give, exchange.take)

    @staticmethod
    def backward(ctx, _unread):
        ctx.exchange.finish()
        gradient, ctx.exchange.gradient = ctx.exchange.gradient, None
        return gradient, None


class Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, exchange):
        ctx.exchange = exchange
        exchange.finish()
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx, gradient):
        exchange = ctx.exchange
        exchange.gradient = exchange.start(gradient, exchange.take, exchange.give)
        # Has the shape that autograd expects; Start returns the gradient that arrives.
        return gradient, None


def grouped_product(rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Rows (rows, inputs) sorted by group, times the transposed weights (groups, outputs, inputs) of their groups."""
    if rows.is_cuda and rows.dtype == torch.bfloat16:
        return F.grouped_mm(rows, weights.transpose(1, 2), offs=counts.cumsum(0).to(torch.int32))
    pieces = zip(rows.split(counts.tolist()), weights.unbind())
    return torch.cat([F.linear(piece, weight) for piece, weight in pieces])


# ---- modules: they hold parameters and call the functions


class Embed(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sizes.vocab, sizes.hidden))

    def forward(self, ids):
        return F.embedding(ids, self.weight)


class MambaLayer(nn.Module):
    def __init__(self, sizes: Sizes, kernels: Kernels) -> None:
        super().__init__()
        self.kernels, self.eps = kernels, sizes.eps
        self.sizes = (sizes.mamba_heads, sizes.mamba_head_dim, sizes.groups, sizes.state, sizes.chunk)
        self.norm = nn.Parameter(torch.ones(sizes.hidden))
        self.w_in = nn.Parameter(torch.empty(sizes.inner + sizes.mixed + sizes.mamba_heads, sizes.hidden))
        self.conv = nn.Parameter(torch.empty(sizes.mixed, sizes.conv))
        self.conv_bias = nn.Parameter(torch.zeros(sizes.mixed))
        self.a_log, self.dt_bias, self.skip = (nn.Parameter(torch.ones(sizes.mamba_heads)) for _ in range(3))
        self.gate_norm = nn.Parameter(torch.ones(sizes.inner))
        self.w_out = nn.Parameter(torch.empty(sizes.hidden, sizes.inner))

    @property
    def replicated(self) -> list[nn.Parameter]:
        """Small parameters that are used in float32."""
        return [self.a_log, self.dt_bias, self.skip]

    def forward(self, x):
        weights = (self.norm, self.w_in, self.conv, self.conv_bias, self.a_log, self.dt_bias, self.skip, self.gate_norm)
        return self.kernels.mamba(x, *weights, self.w_out, self.sizes, self.eps), None


class AttentionLayer(nn.Module):
    replicated: list[nn.Parameter] = []

    def __init__(self, sizes: Sizes, kernels: Kernels) -> None:
        super().__init__()
        self.kernels, self.heads, self.kv_heads, self.eps = kernels, sizes.heads, sizes.kv_heads, sizes.eps
        self.norm = nn.Parameter(torch.ones(sizes.hidden))
        self.w_qkv = nn.Parameter(torch.empty((sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim, sizes.hidden))
        self.w_out = nn.Parameter(torch.empty(sizes.hidden, sizes.heads * sizes.head_dim))

    def forward(self, x):
        return self.kernels.attention(x, self.norm, self.w_qkv, self.w_out, self.heads, self.kv_heads, self.eps), None


class Experts(nn.Module):
    """This rank's experts."""

    def __init__(self, sizes: Sizes, local: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(local, sizes.ffn, sizes.hidden))
        self.down = nn.Parameter(torch.empty(local, sizes.hidden, sizes.ffn))

    def forward(self, rows, counts, kernels):
        up, down = self.up.to(rows.dtype), self.down.to(rows.dtype)
        return grouped_product(Relu2.apply(grouped_product(rows, up, counts), kernels), down, counts)


class MoeLayer(nn.Module):
    """x + experts(norm(x)) + shared(norm(x)). The shared expert is computed while rows travel."""

    def __init__(self, sizes: Sizes, kernels: Kernels, group, ep: int, forced: bool) -> None:
        super().__init__()
        self.kernels, self.group, self.ep, self.forced = kernels, group, ep, forced
        self.top_k, self.scale, self.eps, self.balance = sizes.top_k, sizes.scale, sizes.eps, sizes.balance
        self.norm = nn.Parameter(torch.ones(sizes.hidden))
        self.router = nn.Parameter(torch.empty(sizes.experts, sizes.hidden))
        self.register_buffer("bias", torch.zeros(sizes.experts))
        self.experts = Experts(sizes, sizes.experts // ep)
        self.shared_up = nn.Parameter(torch.empty(sizes.shared_ffn, sizes.hidden))
        self.shared_down = nn.Parameter(torch.empty(sizes.hidden, sizes.shared_ffn))
        self.counts: Tensor | None = None

    @property
    def replicated(self) -> list[nn.Parameter]:
        return [self.router]

    def forward(self, x):
        kernels = self.kernels
        normed, weights, order, inverse, counts, balance = kernels.route(
            x, self.norm, self.router, self.bias, self.top_k, self.scale, self.eps, self.forced)
        self.counts = counts
        if self.ep == 1:
            sent = Expand.apply(normed, order, inverse, self.top_k, kernels)
            inner = kernels.up(normed, self.shared_up)
            answers = self.experts(sent, counts, kernels)
            shared = kernels.down(inner, self.shared_down)
        else:
            answers, shared = self._exchanged(normed, order, inverse, counts)
        return Weigh.apply(answers, weights, x, shared, order, inverse, kernels), balance

    def _exchanged(self, normed, order, inverse, counts):
        kernels = self.kernels
        table = torch.empty_like(counts)
        dist.all_to_all_single(table, counts, group=self.group)
        on_host, arrived = to_host(torch.stack((counts, table)).view(2, self.ep, -1).sum(-1))
        sent = Expand.apply(normed, order, inverse, self.top_k, kernels)
        if arrived is not None:
            arrived.synchronize()
        give, take = on_host.tolist()
        there, back = Exchange(give, take, self.group), Exchange(take, give, self.group)
        coming = Start.apply(sent, there)
        inner = kernels.up(normed, self.shared_up)
        by_expert, by_rank = regrouped(table.view(self.ep, -1), sum(take))
        local = Permute.apply(Finish.apply(coming, there), by_expert, by_rank, kernels)
        answers = self.experts(local, table.view(self.ep, -1).sum(0), kernels)
        going = Start.apply(Permute.apply(answers, by_rank, by_expert, kernels), back)
        shared = kernels.down(inner, self.shared_down)
        return Finish.apply(going, back), shared


def regrouped(table: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The order by expert of `rows` rows that lie by rank and then by expert, as `table` (ranks, experts) counts them,
    and its inverse."""
    ranks, experts = table.shape
    expert = torch.arange(experts, device=table.device, dtype=torch.int32).repeat(ranks)
    order = torch.sort(expert.repeat_interleave(table.flatten(), output_size=rows), stable=True).indices
    return order, torch.empty_like(order).scatter(0, order, torch.arange(rows, device=table.device))


def to_host(tensor: Tensor):
    if not tensor.is_cuda:
        return tensor, None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event


class Head(nn.Module):
    def __init__(self, sizes: Sizes, kernels: Kernels) -> None:
        super().__init__()
        self.kernels, self.eps = kernels, sizes.eps
        self.norm = nn.Parameter(torch.ones(sizes.hidden))
        self.weight = nn.Parameter(torch.empty(sizes.vocab, sizes.hidden))

    def forward(self, x, labels):
        return self.kernels.head(x, self.norm, self.weight, labels, self.eps)


class HybridModel(nn.Module):
    """ids and labels int64 (B, S) -> the sum of cross entropies and the balance loss, a sum over sequences and layers.

    `group` are the `ep` ranks that share the experts of a layer; `forced` deals rows to experts evenly.
    """

    def __init__(self, sizes: Sizes, kernels: Kernels, group=None, ep: int = 1, forced: bool = False) -> None:
        super().__init__()
        self.embed = Embed(sizes)
        self.layers = nn.ModuleList(
            MambaLayer(sizes, kernels) if letter == "M"
            else MoeLayer(sizes, kernels, group, ep, forced) if letter == "E"
            else AttentionLayer(sizes, kernels)
            for letter in sizes.pattern
        )
        self.head = Head(sizes, kernels)

    @property
    def mixtures(self) -> list[MoeLayer]:
        return [layer for layer in self.layers if isinstance(layer, MoeLayer)]

    def forward(self, ids, labels):
        x = self.embed(ids)
        balances = []
        for layer in self.layers:
            x, balance = layer(x)
            if balance is not None:
                balances.append(balance)
        return self.head(x, labels), torch.stack(balances).sum() if balances else x.new_zeros(())


@torch.no_grad()
def initialize(model: HybridModel, sizes: Sizes, first_expert: int = 0, seed: int = 1) -> None:
    """As in GPT-2 and Mamba-2: matrices 0.02, those that add to the residual stream less by the root of their number.

    Values do not depend on which rank holds an expert; `first_expert` is the first of this rank.
    """
    small = 0.02 / len(sizes.pattern) ** 0.5
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        leaf = name.rpartition(".")[2]
        if ".experts." in name:
            continue
        if leaf == "a_log":
            parameter.copy_(torch.empty_like(parameter).uniform_(1, 16).log())
        elif leaf == "dt_bias":
            step = torch.empty_like(parameter).uniform_(-6.9, -2.3).exp()
            parameter.copy_(step + torch.log(-torch.expm1(-step)))
        elif leaf == "conv":
            parameter.normal_(std=0.29)
        elif parameter.dim() > 1:
            parameter.normal_(std=small if leaf in ("w_out", "shared_down") else 0.02)
        else:
            parameter.fill_(0.0 if leaf == "conv_bias" else 1.0)
    for layer in model.mixtures:
        layer.bias.zero_()
        base = torch.randint(2**40, ()).item()
        for number in range(len(layer.experts.up)):
            torch.manual_seed(base + first_expert + number)
            layer.experts.up[number].normal_(std=0.02)
            layer.experts.down[number].normal_(std=small)
        torch.manual_seed(base + sizes.experts)
