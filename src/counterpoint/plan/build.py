"""From a config to a plan: sizes, layouts, splits and widths, all pure."""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from counterpoint.config.custom import CUSTOM_MODULES, fitting
from counterpoint.config.graph import entering_width
from counterpoint.config.schema import (
    AdapterConfig,
    Config,
    ConformerConfig,
    CustomConfig,
    DecoderConfig,
    EdgeConfig,
    FeaturesConfig,
    LinearProjectorConfig,
    MambaConfig,
    ModuleConfig,
    MoeConfig,
    MtpConfig,
    ProjectedConfig,
    ProjectorConfig,
    RopeScalingConfig,
    TowerConfig,
    VitConfig,
    WhisperConfig,
)
from counterpoint.errors import ConfigError
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.model_facts import ModelFacts, facts_of
from counterpoint.plan.part_facts import ENCODER_LAYER
from counterpoint.plan.placement import LayoutRequest, Placement, place
from counterpoint.plan.plan import Plan, Widths, even_split
from counterpoint.plan.sizes import (
    AdapterSizes,
    ConformerSizes,
    CustomSizes,
    DecoderSizes,
    FeaturesSizes,
    MambaSizes,
    ModelSizes,
    MoeSizes,
    MtpSizes,
    ProjectorSizes,
    RopeScaling,
    VitSizes,
    WhisperSizes,
)
from counterpoint.plan.trainability import trained_parts


def build_plan(config: Config, vocab: int | None) -> Plan:
    """The plan of a config; `vocab` is the tokenizer's size, for models whose vocab is `tokenizer`.

    Raises ConfigError or PlacementError.
    """
    placement = placement_of(config)
    graph = Graph.build(tuple(config.modules), tuple(_edge(edge) for edge in config.edges))
    sizes = {name: sizes_of(config, name, vocab) for name in graph.modules}
    facts = {name: facts_of(size) for name, size in sizes.items()}
    rows = {
        name: ModuleRows(
            layout=placement.layout(name),
            merge=facts[name].row_multiple,
            cost=facts[name].cost,
            balance=config.data.balance,
            group=1 if name in graph.sinks else config.schedule.encoder_group,
            roots=frozenset() if name in graph.sinks else graph.roots(name),
            prefix=facts[name].prefix,
        )
        for name in graph.modules
    }
    trained = {name: trained_parts(name, facts[name], module.train) for name, module in config.modules.items()}
    return Plan(
        placement=placement,
        graph=graph,
        sizes=sizes,
        facts=facts,
        rows=rows,
        splits={name: split_parts(config, name, facts[name]) for name in graph.modules},
        widths={
            name: Widths(facts[name].hidden, facts[name].hidden_out, facts[name].hidden_in) for name in graph.modules
        },
        kind=config.schedule.kind,
        microbatches=config.schedule.microbatches,
        dtype=config.training.precision.compute,
        group=config.schedule.encoder_group,
        encoder=config.schedule.encoder,
        buffer=config.schedule.buffer,
        run_ahead=config.schedule.run_ahead,
        trained=trained,
        weights={name: config.modules[name].weight for name in graph.modules},
        moments={name: len(OPTIMIZERS[config.modules[name].optimizer.kind].moments) for name in graph.modules},
        recomputed={name: recomputed_kinds(config, name) for name in graph.modules},
    )


def recomputed_kinds(config: Config, module: str) -> frozenset[str]:
    """The kinds of a module's layers that are computed again in backward."""
    recompute, model = config.modules[module].recompute, config.modules[module].model
    if not isinstance(recompute, str):
        return frozenset(recompute)
    kinds = model.kinds if isinstance(model, DecoderConfig) else frozenset(ENCODER_LAYER)
    return kinds if recompute == "full" else frozenset()


def placement_of(config: Config) -> Placement:
    """Who is where, from the config alone; raises PlacementError."""
    requests = tuple(_request(name, module) for name, module in config.modules.items())
    return place(config.world.size, requests, tuple(config.world.idle), config.world.partial_overlap)


def sizes_of(config: Config, module: str, vocab: int | None) -> ModelSizes:
    """The sizes of a module's model."""
    model = config.modules[module].model
    match model:
        case DecoderConfig():
            return _decoder_sizes(config, module, model, vocab)
        case VitConfig():
            return VitSizes(
                **_tower(config, module, model), patch=model.patch, frames=model.frames, merge=model.merge,
                patch_bias=model.patch_bias, positions=model.positions, fit=model.fit,
                rotary_theta=model.rotary_theta, prefix=model.prefix, embed_norm=model.embed_norm,
                window=model.window or 0, full_layers=tuple(sorted(model.full_layers)),
            )  # fmt: skip
        case CustomConfig():
            return _custom_sizes(config, module, model)
        case FeaturesConfig():
            out, projector = _leaving_width(config, module), _projector(model.projector)
            return FeaturesSizes(width=model.width, out=out, projector=projector)
        case WhisperConfig():
            return WhisperSizes(
                **_tower(config, module, model), mels=model.mels, positions=model.positions,
                stack=model.stack,
            )  # fmt: skip
        case ConformerConfig():
            return ConformerSizes(
                **_ends(config, module, model), mels=model.mels, positions=model.positions,
                stem_channels=model.stem_channels, halvings=model.stride.bit_length() - 1, conv=model.conv,
                bias=model.bias, conv_bias=model.conv_bias, scale_input=model.scale_input,
            )  # fmt: skip
        case AdapterConfig():
            return AdapterSizes(**_tower(config, module, model), inputs=entering_width(config, module))


def _tower(config: Config, module: str, model: TowerConfig) -> dict[str, Any]:
    """The fields that the sizes of all towers of plain layers have."""
    return _ends(config, module, model) | {
        "norm": model.norm, "activation": model.activation, "qkv_bias": model.qkv_bias,
        "layer_scale": model.layer_scale, "final_norm": model.final_norm,
    }  # fmt: skip


def _ends(config: Config, module: str, model: ProjectedConfig) -> dict[str, Any]:
    """The fields that the sizes of all encoders have."""
    return {
        "layers": model.layers, "hidden": model.hidden, "heads": model.heads, "ffn": model.ffn,
        "out": _leaving_width(config, module), "norm_eps": model.norm_eps, "taps": _taps(config, module),
        "tap_norm": model.tap_norm, "projector": _projector(model.projector),
    }  # fmt: skip


def _custom_sizes(config: Config, module: str, model: CustomConfig) -> CustomSizes:
    """What a registered module is, built with its options; raises ConfigError for a rule that fits nothing in it."""
    spec, tp = CUSTOM_MODULES[model.name], config.modules[module].layout.tp
    measured = spec.measure(model.options)
    cut = list(fitting(spec, model.options))
    for pattern in spec.tensor_rules.keys() - {pattern for pattern, *_layer in cut}:
        raise ConfigError(
            f"register_module: {model.name}: tensor_rules: got {pattern!r}, which fits no linear layer, expected a "
            f"pattern of names like {next(iter(measured.linears), 'none, it has no linear layer')!r}; correct it"
        )
    for _pattern, name, role, size in cut:
        if size % tp:
            raise ConfigError(
                f"modules.{module}.layout.tp: got {tp} for the {size} {role} of {name}, expected a divisor; change "
                "tp or the model"
            )
    return CustomSizes(
        name=model.name, hidden=model.hidden, layers=model.layers, out=_leaving_width(config, module),
        patch=model.patch, merge=model.merge, projector=_projector(model.projector),
        parameters=tuple(measured.parameters.items()), tensor_rules=tuple(spec.tensor_rules.items()),
        initial=tuple((pattern, *values) for pattern, values in spec.initial.items()),
        build=partial(spec.build, model.options),
        weights=None if spec.weights is None else partial(spec.weights, model.options),
    )  # fmt: skip


def _projector(projector: ProjectorConfig) -> ProjectorSizes:
    sizes = ProjectorSizes(
        kind=projector.kind, norm=projector.norm, norm_eps=projector.norm_eps, bias=projector.bias
    )  # fmt: skip
    if isinstance(projector, LinearProjectorConfig):
        return sizes
    return replace(sizes, hidden=projector.hidden, activation=projector.activation)


def _decoder_sizes(config: Config, module: str, model: DecoderConfig, vocab: int | None) -> DecoderSizes:
    words = vocab if model.vocab == "tokenizer" else model.vocab
    if words is None:
        raise ConfigError(
            f"modules.{module}.model.vocab: got 'tokenizer' without data.tokenizer, expected a tokenizer file; "
            "set data.tokenizer or give a number"
        )
    return DecoderSizes(
        pattern=model.pattern, hidden=model.hidden, heads=model.heads,
        kv_heads=model.num_kv_heads, head_dim=model.head_size,
        ffn=0 if model.ffn is None else model.ffn, vocab=int(words), tied=model.tied, activation=model.activation,
        rope_theta=model.rope_theta, rope_sections=model.rope_sections,
        rope_interleaved=model.rope_interleaved, qk_norm=model.qk_norm,
        rope_scaling=None if model.rope_scaling is None else _rope_scaling(model.rope_scaling),
        norm_eps=model.norm_eps, qkv_bias=model.qkv_bias,
        mamba=None if model.mamba is None else _mamba_sizes(model.mamba),
        moe=None if model.moe is None else _moe_sizes(model.moe),
        inserts=_ascending(depth.into for edge in config.edges if edge.target == module for depth in edge.depths),
        mtp=None if model.mtp is None else _mtp_sizes(model.mtp),
    )  # fmt: skip


def _edge(edge: EdgeConfig) -> Edge:
    return Edge(edge.source, edge.target, tuple((depth.after, depth.into) for depth in edge.depths))


def _leaving_width(config: Config, module: str) -> int:
    """Columns of the rows that leave an encoder: all of its targets take the same."""
    return entering_width(config, next(edge.target for edge in config.edges if edge.source == module))


def _taps(config: Config, module: str) -> tuple[int, ...]:
    return _ascending(depth.after for edge in config.edges if edge.source == module for depth in edge.depths)


def _ascending(layers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(layers)))


def _mamba_sizes(mamba: MambaConfig) -> MambaSizes:
    return MambaSizes(
        heads=mamba.heads, head_dim=mamba.head_dim, groups=mamba.groups, state=mamba.state, conv=mamba.conv,
        chunk=mamba.chunk, dt_min=mamba.dt_min,
    )  # fmt: skip


def _rope_scaling(scaling: RopeScalingConfig) -> RopeScaling:
    return RopeScaling(
        factor=scaling.factor, low_freq_factor=scaling.low_freq_factor, high_freq_factor=scaling.high_freq_factor,
        original_positions=scaling.original_positions,
    )  # fmt: skip


def _moe_sizes(moe: MoeConfig) -> MoeSizes:
    return MoeSizes(
        experts=moe.experts, top_k=moe.top_k, ffn=moe.ffn, shared_ffn=moe.shared_ffn, router=moe.router,
        normalize=moe.normalize, scale=moe.scale, bias_rate=moe.bias_rate, balance=moe.balance,
    )  # fmt: skip


def _mtp_sizes(mtp: MtpConfig) -> MtpSizes:
    return MtpSizes(depths=mtp.depths, pattern=mtp.pattern, weight=mtp.weight)


def split_parts(config: Config, module: str, facts: ModelFacts) -> tuple[tuple[int, int], ...]:
    """Runs of parts per stage: the layers are split; what stands behind one stays with it, what is left at the ends."""
    layout = config.modules[module].layout
    layers = [place for place, part in enumerate(facts.parts) if part.name.startswith("layers.")]
    if isinstance(layout.split, str):
        firsts = [first for first, _stop in even_split(len(layers), layout.pp * layout.chunks)]
    else:
        firsts = [sum(layout.split[:stage]) for stage in range(len(layout.split))]
    return tuple(itertools.pairwise([0, *(layers[first] for first in firsts[1:]), len(facts.parts)]))


def _request(name: str, module: ModuleConfig) -> LayoutRequest:
    layout = module.layout
    return LayoutRequest(
        module=name, ranks=None if layout.ranks is None else tuple(layout.ranks), pp=layout.pp,
        dp_replicate=layout.dp_replicate, dp_shard=layout.dp_shard, cp=layout.cp, tp=layout.tp,
        ep=layout.expert.ep, etp=layout.expert.etp,
        sequence_parallel=layout.sequence_parallel, reshard=layout.reshard, chunks=layout.chunks,
    )  # fmt: skip
