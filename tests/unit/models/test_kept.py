"""What facts say that forward keeps for backward is what autograd saves, part by part, and what a compiler saves."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table

from counterpoint.families import FAMILIES, facts_of
from counterpoint.families.decoder.spec import MtpConfig
from counterpoint.kinds.family import Model
from counterpoint.layers import LAYERS
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.batch import Batch
from counterpoint.models.chain import Chain
from counterpoint.models.seams import Wide
from counterpoint.parallelize.compile import apply_compile
from counterpoint.parallelize.discard import apply_discard
from counterpoint.plan.activations import ActivationPolicy
from counterpoint.plan.kept import Path
from tests.storages import Storages
from tests.unit.models.model_samples import batch_of, build, changed, mlp, patch_batch, sample, vit

ROWS = 256
BAND = 0.05
"""Facts may leave out vectors, masks and what all layers share, such as sines of positions."""

DECODER = sample(
    "decoder", pattern="*-*-", hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=192, vocab=512, tied=False, qk_norm=True
)
HYBRID = changed(
    DECODER, pattern="MEM*", activation="relu2", qk_norm=False,
    mamba=MambaConfig(heads=8, head_dim=16, groups=2, state=16, chunk=64),
    moe=MoeConfig(experts=8, top_k=2, ffn=48, shared_ffn=96, router="sigmoid", balance=0.1),
)  # fmt: skip
VIT = vit(layers=2, hidden=64, heads=4, ffn=256, patch=4, leaving=96, positions=4, projector=mlp(80, norm="layer"))
MODELS: dict[str, Model] = {
    "decoder": DECODER,
    "sandwich": changed(DECODER, post_norm=True, activation="geglu_tanh", qk_norm=False),
    "tied": changed(DECODER, tied=True, activation="relu2"),
    "hybrid": HYBRID,
    "gated experts": changed(
        HYBRID, pattern="EM-", activation="swiglu", moe=MoeConfig(experts=8, top_k=3, ffn=48),
        mamba=MambaConfig(heads=4, head_dim=32, groups=1, state=32, chunk=32),
    ),
    "further": changed(DECODER, pattern="*-", mtp=MtpConfig(depths=2, pattern="*-", weight=0.5)),
    "vit": VIT,
    "gated vit": changed(
        VIT, positions=0, rotary_theta=100.0, merge=2, norm="rms", activation="swiglu", projector=mlp(80)
    ),
    "scaled vit": changed(
        VIT, layer_scale=True, embed_norm=True, activation="quick_gelu", projector={"kind": "linear"}
    ),
    "whisper": sample(
        "whisper", layers=2, hidden=64, heads=4, ffn=192, mels=16, positions=600, stack=2, leaving=96,
        projector=mlp(80),
    ),
    "conformer": sample(
        "conformer", layers=2, hidden=64, heads=4, ffn=192, positions=ROWS, leaving=96, mels=16, stem_channels=8,
        conv=5, projector=mlp(80),
    ),
    "convnext": sample(
        "convnext", image=VIT.section.image, patch=4, depths=(1, 2), widths=(32, 64), leaving=96,
        projector=mlp(80, norm="layer"),
    ),
    "adapter": sample(
        "adapter", layers=2, hidden=64, heads=4, ffn=192, entering=48, leaving=96, projector=mlp(80)
    ),
    "features": sample("features", width=64, leaving=96, projector=mlp(80, norm="layer")),
}  # fmt: skip
DTYPES = {torch.bfloat16: 2, torch.float32: 4}


def _batch(model: Model, dtype: torch.dtype) -> Batch:
    is_picture = model.section.kind in ("vit", "convnext")
    batch = patch_batch(model, [(16, 16)]) if is_picture else batch_of(model, (ROWS,))
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    floats: dict[str, Any] = {
        key: one.to(dtype) for key, one in given.items() if isinstance(one, Tensor) and one.is_floating_point()
    }
    return replace(batch, **floats)


def _chain(model: Model, dtype: torch.dtype) -> Chain:
    chain = build(model).to(dtype)
    for module in chain.modules():
        if isinstance(module, Wide):
            module.to(torch.float32)
    return chain


def _saved(chain: Chain, batch: Batch) -> dict[str, int]:
    """Bytes of the distinct storages, weights aside, that wait for backward, by the part that saved them first."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in chain.parameters()}
    owners: dict[int, tuple[str, Tensor]] = {}
    now = [""]

    def pack(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            owners.setdefault(place, (now[0], tensor))
        return tensor

    def named(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            now[0] = name
            return forward(*given)

        return run

    for name, part in chain.parts():
        part.forward = named(name, part.forward)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = chain(None, batch)
    found = dict.fromkeys(chain.part_names, 0)
    for name, tensor in owners.values():
        found[name] += tensor.untyped_storage().nbytes()
    del kept
    return found


def _believed(
    model: Model, computed: int, path: Path = "plain", discards: frozenset[str] = frozenset()
) -> dict[str, float]:
    found = {}
    for part in facts_of(model).parts:
        policy = ActivationPolicy(discards if part.kinds else frozenset())
        each = sum(one.elements * one.bytes_each(computed) for one in part.kept.on(path) if one.is_kept(policy))
        found[part.name] = ROWS * each + part.kept_matrix * max(computed, 4)
    return found


def _is_close(believed: float, saved: float) -> bool:
    return math.isclose(believed, saved, rel_tol=BAND, abs_tol=8 * ROWS)


@contextmanager
def _partitioned() -> Iterator[None]:
    """torch.compile as the compiler for GPUs cuts forward from backward, but without generating code."""

    def backend(graph: Any, given: Any) -> Any:
        def keep(module: nn.Module, _given: Any) -> nn.Module:
            return module

        partition, table = min_cut_rematerialization_partition, select_decomp_table()
        compiler: Any = aot_autograd(fw_compiler=keep, bw_compiler=keep, partition_fn=partition, decompositions=table)
        return compiler(graph, given)

    compiled = torch.compile
    torch._dynamo.reset()
    with patch.object(torch, "compile", lambda function: compiled(function, backend=backend, dynamic=False)):
        yield
    torch._dynamo.reset()


def test_every_family_and_every_kind_of_layer_has_a_sample() -> None:
    assert {model.section.kind for model in MODELS.values()} == set(FAMILIES) - {"custom"}
    assert {"attention", "mlp", "mamba", "moe"} == set(LAYERS)


_OFTEN = ("decoder", "hybrid")
PLAIN = [
    *((name, torch.bfloat16) for name in MODELS),
    *((name, torch.float32) for name in _OFTEN),
    *(pytest.param(name, torch.float32, marks=pytest.mark.more) for name in MODELS if name not in _OFTEN),
]


@pytest.mark.parametrize(("name", "dtype"), PLAIN)
def test_plain_layers_keep_what_autograd_saves(name: str, dtype: torch.dtype) -> None:
    model = MODELS[name]
    saved, believed = _saved(_chain(model, dtype), _batch(model, dtype)), _believed(model, DTYPES[dtype])
    assert saved.keys() == believed.keys()
    assert {part for part in saved if not _is_close(believed[part], saved[part])} == set()


def _alive(model: Model, dtype: torch.dtype, discards: str) -> int:
    """Bytes that a forward leaves alive; saved tensors do not tell where layers have hooks of their own."""
    chain, batch = _chain(model, dtype), _batch(model, dtype)
    apply_discard(chain, {discards})
    storages = Storages()
    with storages:
        kept = chain(None, batch)
        found = storages.bytes()
    del kept
    return found


@pytest.mark.parametrize(("name", "discards"), [("decoder", "norms"), ("hybrid", "convs"), ("vit", "activations")])
def test_parts_that_are_made_again_are_not_kept(name: str, discards: str) -> None:
    model, dtype = MODELS[name], torch.bfloat16
    alive = _alive(model, dtype, "") - _alive(model, dtype, discards)
    everything, less = _believed(model, DTYPES[dtype]), _believed(model, DTYPES[dtype], discards=frozenset({discards}))
    assert alive > 0
    assert math.isclose(sum(everything.values()) - sum(less.values()), alive, rel_tol=BAND)


# The compiler looks at the gradients of all tensors that it is given.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["vit", "decoder", pytest.param("gated vit", marks=pytest.mark.more)])
def test_compiled_layers_keep_what_the_compiler_saves(name: str) -> None:
    """Of layers that are one region; around the others plain torch of a CPU keeps more than kernels do."""
    model, dtype = MODELS[name], torch.bfloat16
    chain = _chain(model, dtype)
    with _partitioned():
        apply_compile(chain)
        saved = _saved(chain, _batch(model, dtype))
    believed, layers = _believed(model, DTYPES[dtype], "compiled"), [p for p in saved if p.startswith("layers.")]
    assert {part for part in layers if not _is_close(believed[part], saved[part])} == set()


@pytest.mark.parametrize("lost", ["decoder", "hybrid", "vit"])
def test_facts_that_forget_a_tensor_are_noticed(lost: str) -> None:
    model, dtype = MODELS[lost], torch.bfloat16
    saved = _saved(_chain(model, dtype), _batch(model, dtype))
    for part in facts_of(model).parts:
        computed = DTYPES[dtype]
        sizes = [one.elements * one.bytes_each(computed) * ROWS for one in part.kept.plain if one.is_kept()]
        if part.name.startswith("layers.") and sizes:
            assert not _is_close(sum(sizes) - max(sizes), saved[part.name])
