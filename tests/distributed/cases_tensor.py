"""Tensor parallelism against the plain model: loss, output rows and every gradient, in float64."""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.families import facts_of, initial_of, rules_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.kinds.rules import Initial
from counterpoint.models.batch import AudioBatch, Batch, FeatureBatch, Insert, TextBatch
from counterpoint.models.chain import MAIN, Chain, Part, build_chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import Sharding, block_of
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.initialize import initialize_
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN
from tests.gradients import gradient_of
from tests.intakes import image_batch, image_intake, laid_image
from tests.unit.models.model_samples import LINEAR, changed, mlp, sample, vit

TOLERANCE = 1e-12
Gradients = dict[str, Tensor]

DECODER = sample(
    "decoder", pattern="*-*-", hidden=12, heads=6, head_dim=4, ffn=18, vocab=31, tied=False, qk_norm=True, bias=True
)
TIED = sample(
    "decoder", pattern="*-", hidden=12, heads=12, kv_heads=6, head_dim=2, ffn=12, vocab=31, activation="relu2"
)
VIT = vit(
    layers=2, hidden=12, heads=6, ffn=18, patch=2, leaving=10, positions=3, merge=2,
    projector=mlp(6, norm="layer"), tap_norm="layer",
)  # fmt: skip
LINEAR_VIT = vit(layers=1, hidden=12, heads=6, ffn=18, patch=2, leaving=10, positions=3, projector=LINEAR)
TAPPED = changed(VIT, taps=(0, 1))
TOWERS = (
    changed(VIT, prefix=4, fit="crop", layer_scale=True, final_norm=False, embed_norm=True, patch_bias=False),
    changed(
        VIT, positions=0, hidden=24, rotary_theta=50.0, norm="rms", activation="swiglu", window=2, full_layers=(1,)
    ),
    changed(VIT, fit="antialias", key_bias=False, projector=mlp(6, norm="rms", bias=False)),
)
DEEP = changed(DECODER, inserts=(0, 2))
ADAPTER = sample("adapter", layers=2, hidden=12, heads=6, ffn=18, entering=5, leaving=10, projector=LINEAR, taps=(0,))
CONFORMER = sample(
    "conformer", layers=2, hidden=12, heads=6, ffn=18, leaving=10, mels=8, stem_channels=3, conv=5, taps=(0,),
    projector=mlp(6),
)  # fmt: skip
CONVNEXT = sample(
    "convnext", patch=2, depths=(1, 1), widths=(6, 12), leaving=10, image={"max_patches": 64}, projector=mlp(6),
)  # fmt: skip


def tensor_parallel_equals_plain(rank: int, group: dist.ProcessGroup, size: int) -> None:
    """Compare every model in both modes, whole and in two stages, and under sequence parallelism with few rows and
    without; `size` divides 6."""
    for sequence_parallel in (True, False):
        for model in (DECODER, TIED, VIT, LINEAR_VIT, TAPPED, DEEP, ADAPTER, CONFORMER, CONVNEXT, *TOWERS):
            for lengths in ((8, 4, 4), (4,), ()) if sequence_parallel else ((8, 4, 4),):
                batches = _batches(model, lengths, rank, size)
                _compare(model, batches, (rank, group, size), sequence_parallel, stages=1)
                if len(lengths) > 1 and not facts_of(model).is_tied:
                    _compare(model, batches, (rank, group, size), sequence_parallel, stages=2)


def _batches(model: Model, lengths: tuple[int, ...], rank: int, size: int) -> tuple[Batch, Batch]:
    """The whole batch, and what a tensor-parallel rank reads of it."""
    used = sum(lengths)
    rows = -(-used // (4 * size)) * 4 * size
    segments = Segments.build(lengths, rows)
    generator = torch.Generator().manual_seed(1)
    own = slice(rank * rows // size, (rank + 1) * rows // size)
    section = model.section
    if "image" in type(section).model_fields:
        intake = image_intake(model)
        images = [
            laid_image(sum(lengths[:i]) + intake.prefix * (i + 1), (2, n // 2), intake.merge)
            for i, n in enumerate(lengths)
        ]
        ends = images[-1].row + images[-1].rows if images else 0
        rows = -(-ends // (4 * size)) * 4 * size
        own = slice(rank * rows // size, (rank + 1) * rows // size)
        pixels = torch.randn(rows, intake.columns, dtype=torch.float64, generator=generator)
        whole = image_batch(model, images, pixels)
        return whole, replace(
            whole,
            patches=whole.patches[own],
            coordinates=whole.coordinates[own],
            grids=whole.grids[own],
            prefix=whole.prefix[own],
        )
    if section.kind == "conformer":
        clips = clip_rows(model, rows, segments)
        return clips, rows_of(clips, own, segments)
    if section.kind == "adapter":
        features = torch.randn(used, model.ends.entering, dtype=torch.float64, generator=generator)
        inserts = _split_inserts(features, torch.arange(used), own)
        return (
            FeatureBatch(rows, segments).with_inserts(inserts[0]),
            FeatureBatch(rows // size, segments).with_inserts(inserts[1]),
        )
    ids = torch.randint(0, model.ends.vocab, (rows,), generator=generator)
    labels = torch.randint(0, model.ends.vocab, (rows,), generator=generator)
    positions = torch.cat([torch.arange(n) for n in (*lengths, rows - used)])
    ids[used:], labels[used:], labels[::5] = NO_TOKEN, NO_LABEL, NO_LABEL
    places = torch.arange(1, max(used, 1), 3)
    ids[places] = NO_TOKEN
    shape = (len(places), section.hidden)
    text = TextBatch(ids, positions, labels, segments, loss_denominator=7.0)
    inserts = _split_inserts(torch.randn(shape, dtype=torch.float64, generator=generator), places, own)
    deep = {
        layer: _split_inserts(torch.randn(shape, dtype=torch.float64, generator=generator), places, own)
        for layer in model.ends.inserts
    }
    whole_deep, own_deep = ({layer: pair[side] for layer, pair in deep.items()} for side in (0, 1))
    return text.with_inserts(inserts[0], whole_deep), text.with_inserts(inserts[1], own_deep)


def clip_rows(model: Model, rows: int, segments: Segments) -> AudioBatch:
    """Rows of clips: the stem works row by row, so windows need not fit to each other here."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.randn(rows, model.section.window, model.section.mels, dtype=torch.float64, generator=generator)
    filled = torch.rand(rows, model.section.window, generator=generator) < 0.8
    return AudioBatch(frames, filled, torch.arange(rows), segments=segments)


def rows_of(clips: AudioBatch, own: slice, segments: Segments) -> AudioBatch:
    """A rank's own rows, of a lane with these segments."""
    return AudioBatch(clips.frames[own], clips.filled[own], clips.positions[own], segments=segments)


def _split_inserts(features: Tensor, places: Tensor, own: slice) -> tuple[tuple[Insert, ...], tuple[Insert, ...]]:
    """Features at places of the whole batch, and those that reach a rank's own rows."""
    inside = (places >= own.start) & (places < own.stop)
    share = features[inside].clone().requires_grad_()
    return ((features.requires_grad_(), places),), ((share, places[inside] - own.start),)


def _compare(
    model: Model,
    batches: tuple[Batch, Batch],
    place: tuple[int, dist.ProcessGroup, int],
    sequence_parallel: bool,
    stages: int,
) -> None:
    rank, group, size = place
    parts = parts_of(model)
    cut = len(parts) // 2
    runs = [parts] if stages == 1 else [parts[:cut], parts[cut:]]
    plain = [_build(model, run, None, sequence_parallel) for run in runs]
    local = [_build(model, run, TensorGroup(group, rank, size), sequence_parallel) for run in runs]
    expected = _forward_backward([chain for chain, _ in plain], batches[0], 0, 1)
    found = _forward_backward([chain for chain, _ in local], batches[1], rank, size)
    what = f"{model}, sequence_parallel={sequence_parallel}, stages={stages}, rank {rank}"
    assert found.keys() == expected.keys()
    for port, out in expected.items():
        share_rows = out.shape[0] // size if out.ndim else 0
        share = out[rank * share_rows : (rank + 1) * share_rows] if out.ndim else out
        torch.testing.assert_close(found[port], share, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m: f"{what}: {m}")
    for (whole, _), (own, shardings) in zip(plain, local, strict=True):
        _compare_gradients(whole, own, shardings, place, what)
    readers = tuple(batch for batch in batches if isinstance(batch, TextBatch | FeatureBatch))
    if readers:
        _compare_inserts(readers, rank, size, what)


def _build(
    model: Model, parts: list[Part], ranks: TensorGroup | None, sequence_parallel: bool
) -> tuple[Chain, dict[str, Sharding]]:
    with torch.device("meta"):
        chain = build_chain(parts).to(torch.float64)
    shardings = apply_tensor_parallel(chain, ranks, sequence_parallel, rules_of(model.section))
    rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
    # What begins at zero would leave out what it multiplies.
    rules = (Initial("*.response_norm.weight", std=0.5), *initial_of(model.section))
    residual_sums = facts_of(model).residual_sums
    chain.to_empty(device="cpu")
    for buffer in chain.buffers():
        # Every channel has a constant of its own, so that a wrong share of them is seen.
        buffer.copy_(1.0 + torch.arange(buffer.numel()) * 0.1)
    for name, parameter in chain.named_parameters():
        block = block_of(name, shardings[name], rank, size, 0, 1)
        # Ten times the usual spread lets a wrong gradient stand out of the tolerance.
        initialize_(parameter.detach(), block, 3, "module", residual_sums, rules)
        if parameter.ndim > 1:
            parameter.detach().mul_(10)
    return chain, shardings


def _forward_backward(chains: list[Chain], batch: Batch, rank: int, size: int) -> dict[str, Tensor]:
    rows: Tensor | None = None
    outputs: dict[str, Tensor] = {}
    for chain in chains:
        outputs |= chain(rows, batch)
        rows = outputs[MAIN]
    torch.autograd.backward(list(outputs.values()), [_seed(out, rank, size) for out in outputs.values()])
    return {port: out.detach() for port, out in outputs.items()}


def _seed(out: Tensor, rank: int, size: int) -> Tensor | None:
    """The gradient of a rank's share of an output, different for every element of the whole; none for the loss."""
    if out.ndim == 0:
        return None
    whole = torch.arange(out.numel() * size, dtype=torch.float64).sin().view(-1, out.shape[1])
    return whole[rank * out.shape[0] : (rank + 1) * out.shape[0]]


def _compare_gradients(
    whole: Chain,
    share: Chain,
    shardings: dict[str, Sharding],
    place: tuple[int, dist.ProcessGroup, int],
    what: str,
) -> None:
    rank, group, size = place
    expected = {name: gradient_of(parameter) for name, parameter in whole.named_parameters()}
    assert expected.keys() == dict(share.named_parameters()).keys()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for name, parameter in share.named_parameters():
        block = block_of(name, shardings[name], rank, size, 0, 1)
        gradient = parameter.grad
        assert gradient is not None, f"{what}: {name} has no gradient"
        if block.reduction == "partial":
            dist.all_reduce(gradient, group=group)
        padding = gradient.abs().sum() - gradient[block.local_slices].abs().sum()
        assert padding.abs() <= TOLERANCE, f"{what}: {name} has a gradient in its padding"
        error = (gradient[block.local_slices] - expected[name][block.global_slices]).abs()
        worst = error.max().item() if error.numel() else 0.0
        assert worst <= TOLERANCE * max(1.0, scale), f"{what}: {name} differs by {worst:.3g}"


def _compare_inserts(batches: tuple[TextBatch | FeatureBatch, ...], rank: int, size: int, what: str) -> None:
    """The gradients of features that came in front of all layers, and behind some."""
    whole, own = (_inserts(batch) for batch in batches)
    share = batches[0].segments.rows // size
    for (features, places), (own_features, _own_places) in zip(whole, own, strict=True):
        inside = (places >= rank * share) & (places < (rank + 1) * share)
        expected, found = features.grad, own_features.grad
        assert expected is not None, f"{what}: the inserted features have no gradient"
        torch.testing.assert_close(found, expected[inside], rtol=TOLERANCE, atol=TOLERANCE)
        features.grad = own_features.grad = None


def _inserts(batch: TextBatch | FeatureBatch) -> list[Insert]:
    deep = batch.deep if isinstance(batch, TextBatch) else {}
    return [*batch.inserts, *(insert for inserts in deep.values() for insert in inserts)]
