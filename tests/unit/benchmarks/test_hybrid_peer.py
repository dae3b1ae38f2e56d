"""The peer of the hybrid's benchmark computes what ours computes, from the same weights; its FLOPs are counted."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from comparison.stick import FULL, NO_LABEL, SMALL, HybridModel, Kernels, Sizes
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.seams import run
from counterpoint.models.segments import Segments

BATCH, SEQUENCE = 2, 32
EXACT = 1.0e-12


def _ours(sizes: Sizes) -> Chain:
    section = DecoderConfig.model_validate({
        "kind": "decoder", "pattern": sizes.pattern, "hidden": sizes.hidden, "heads": sizes.heads,
        "kv_heads": sizes.kv_heads, "head_dim": sizes.head_dim, "vocab": sizes.vocab, "tied": False,
        "activation": "relu2", "rope_theta": None, "norm_eps": sizes.eps,
        "mamba": {"heads": sizes.mamba_heads, "head_dim": sizes.mamba_head_dim, "groups": sizes.groups,
                  "state": sizes.state, "conv": sizes.conv, "chunk": 8},
        "moe": {"experts": sizes.experts, "top_k": sizes.top_k, "ffn": sizes.ffn, "shared_ffn": sizes.shared_ffn,
                "router": "sigmoid", "scale": sizes.scale, "bias_rate": sizes.bias_rate, "balance": sizes.balance},
    })  # fmt: skip
    chain = build_chain(parts_of(Model(section, Ends(vocab=sizes.vocab)))).double()
    generator = torch.Generator().manual_seed(3)
    for _name, tensor in (*chain.named_parameters(), *chain.named_buffers()):
        tensor.data.normal_(std=0.3, generator=generator)
    return chain


def _pairs(peer: HybridModel, ours: dict[str, Tensor], pattern: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor of the peer, and ours that it is, put together where the peer has fewer."""
    yield peer.embed.weight, ours["embed.weight"]
    yield peer.head.norm, ours["norm.weight"]
    yield peer.head.weight, ours["head.weight"]
    layers: Any = peer.layers
    for number, (letter, layer) in enumerate(zip(pattern, layers, strict=True)):
        own = {k.removeprefix(f"layers.{number}."): v for k, v in ours.items() if k.startswith(f"layers.{number}.")}
        yield layer.norm, own["norm.weight"]
        if letter == "M":
            yield layer.w_in, torch.cat([own[f"mamba.{key}.weight"] for key in ("z", "x", "b", "c", "dt")])
            yield layer.conv, torch.cat([own[f"mamba.{key}_conv.weight"] for key in "xbc"])
            yield layer.conv_bias, torch.cat([own[f"mamba.{key}_conv.bias"] for key in "xbc"])
            for mine, key in ((layer.a_log, "a_log"), (layer.dt_bias, "dt_bias"), (layer.skip, "d")):
                yield mine, own[f"mamba.dynamics.{key}"]
            yield layer.gate_norm, own["mamba.norm.weight"]
            yield layer.w_out, own["mamba.o.weight"]
        elif letter == "E":
            yield layer.router, own["moe.router.weight"]
            yield layer.experts.up, own["moe.experts.up"]
            yield layer.experts.down, own["moe.experts.down"]
            yield layer.shared_up, own["moe.shared.up.weight"]
            yield layer.shared_down, own["moe.shared.down.weight"]
        else:
            yield layer.w_qkv, torch.cat([own[f"attention.{key}.weight"] for key in "qkv"])
            yield layer.w_out, own["attention.o.weight"]


def _loss_of_ours(chain: Chain, ids: Tensor, labels: Tensor) -> Tensor:
    positions = torch.arange(SEQUENCE).repeat(BATCH)
    batch = TextBatch(
        ids=ids.flatten(), positions=positions, segments=Segments.build((SEQUENCE,) * BATCH, BATCH * SEQUENCE),
        labels=labels.flatten(), inserts=(), loss_denominator=float(BATCH * (SEQUENCE - 1)),
        document_denominator=float(BATCH),
    )  # fmt: skip
    rows = None
    for _name, part in chain.parts():
        rows = run(part, rows, batch).rows
    assert rows is not None
    return rows


def test_the_peer_has_our_loss_and_gradients() -> None:
    sizes = replace(SMALL, balance=0.3)
    chain, peer = _ours(sizes), HybridModel(sizes, Kernels(compile=False)).double()
    with torch.no_grad():
        for mine, other in _pairs(peer, dict(chain.named_parameters()), sizes.pattern):
            mine.copy_(other)
        layers: Any = peer.layers
        for number, layer in enumerate(layers):
            if sizes.pattern[number] == "E":
                layer.bias.copy_(dict(chain.named_buffers())[f"layers.{number}.moe.router.bias"])
    ids = torch.randint(sizes.vocab, (BATCH, SEQUENCE), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, NO_LABEL)
    labels[:, :-1] = ids[:, 1:]
    loss, balance = peer(ids, labels)
    mean = loss / (BATCH * (SEQUENCE - 1))
    (mean + balance * (sizes.balance / BATCH)).backward()
    ours = _loss_of_ours(chain, ids, labels)
    ours.backward()
    assert abs(mean.item() - ours.item()) < EXACT * ours.item()
    gradients = {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}
    compared = 0
    for (mine, _), (_same, expected) in zip(
        _pairs(peer, dict(chain.named_parameters()), sizes.pattern), _pairs(peer, gradients, sizes.pattern), strict=True
    ):
        assert mine.grad is not None
        assert (mine.grad - expected).norm() <= EXACT * expected.norm()
        compared += mine.numel()
    assert compared == sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in chain.parameters())


@pytest.mark.parametrize(("experts", "gflops"), [(32, 9.2326), (128, 9.2450)])
def test_flops_of_a_token(experts: int, gflops: float) -> None:
    assert round(replace(FULL, experts=experts).flops_per_token(8192) / 1e9, 4) == gflops
