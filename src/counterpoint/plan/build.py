"""From a config to a plan: sizes, layouts, splits and widths, all pure."""

import itertools

from counterpoint.config.schema import (
    Config,
    DecoderConfig,
    MambaConfig,
    MlpProjectorConfig,
    ModuleConfig,
    MoeConfig,
)
from counterpoint.errors import ConfigError
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.model_facts import facts_of
from counterpoint.plan.placement import LayoutRequest, Placement, place
from counterpoint.plan.plan import Plan, even_split
from counterpoint.plan.sizes import DecoderSizes, MambaSizes, ModelSizes, MoeSizes, VitSizes


def build_plan(config: Config, vocab: int | None) -> Plan:
    """The plan of a config; `vocab` is the tokenizer's size, for models whose vocab is `tokenizer`.

    Raises ConfigError or PlacementError.
    """
    placement = placement_of(config)
    edges = tuple(Edge(edge.source, edge.target) for edge in config.edges)
    graph = Graph.build(tuple(config.modules), edges)
    sizes = {name: sizes_of(config, name, vocab) for name in graph.modules}
    facts = {name: facts_of(size) for name, size in sizes.items()}
    rows = {
        name: ModuleRows(
            layout=placement.layout(name),
            merge=facts[name].row_multiple,
            cost=facts[name].integer_cost,
            balance=config.data.balance,
        )
        for name in graph.modules
    }
    return Plan(
        placement=placement,
        graph=graph,
        sizes=sizes,
        rows=rows,
        splits={name: split_parts(config, name, len(facts[name].parts)) for name in graph.modules},
        widths={name: (sizes[name].hidden, facts[name].hidden_out) for name in graph.modules},
        kind=config.schedule.kind,
        microbatches=config.schedule.microbatches,
        dtype=config.training.precision.compute,
    )


def placement_of(config: Config) -> Placement:
    """Who is where, from the config alone; raises PlacementError."""
    requests = tuple(_request(name, module) for name, module in config.modules.items())
    return place(config.world.size, requests, tuple(config.world.idle), config.world.partial_overlap)


def sizes_of(config: Config, module: str, vocab: int | None) -> ModelSizes:
    """The sizes of a module's model."""
    model = config.modules[module].model
    if isinstance(model, DecoderConfig):
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
            rope_theta=model.rope_theta, rope_sections=model.rope_sections, qk_norm=model.qk_norm,
            norm_eps=model.norm_eps, qkv_bias=model.qkv_bias,
            mamba=None if model.mamba is None else _mamba_sizes(model.mamba),
            moe=None if model.moe is None else _moe_sizes(model.moe),
        )  # fmt: skip
    target = next(edge.target for edge in config.edges if edge.source == module)
    return VitSizes(
        layers=model.layers, hidden=model.hidden, heads=model.heads, ffn=model.ffn, patch=model.patch,
        out=config.modules[target].model.hidden, positions=model.positions, merge=model.merge,
        projector=model.projector.kind,
        projector_hidden=model.projector.hidden if isinstance(model.projector, MlpProjectorConfig) else 0,
    )  # fmt: skip


def _mamba_sizes(mamba: MambaConfig) -> MambaSizes:
    return MambaSizes(
        heads=mamba.heads, head_dim=mamba.head_dim, groups=mamba.groups, state=mamba.state, conv=mamba.conv,
        chunk=mamba.chunk,
    )  # fmt: skip


def _moe_sizes(moe: MoeConfig) -> MoeSizes:
    return MoeSizes(
        experts=moe.experts, top_k=moe.top_k, ffn=moe.ffn, shared_ffn=moe.shared_ffn, router=moe.router,
        normalize=moe.normalize, scale=moe.scale, bias_rate=moe.bias_rate, balance=moe.balance,
    )  # fmt: skip


def split_parts(config: Config, module: str, parts: int) -> tuple[tuple[int, int], ...]:
    """Runs of parts per stage: the layers are split, what stands before and after them stays at the ends."""
    layout = config.modules[module].layout
    layers = parts - _ENDS[config.modules[module].model.kind]
    if isinstance(layout.split, str):
        runs = even_split(layers, layout.pp)
    else:
        bounds = [sum(layout.split[:i]) for i in range(len(layout.split) + 1)]
        runs = tuple(itertools.pairwise(bounds))
    shifted = [(start + 1, stop + 1) for start, stop in runs]
    shifted[0] = (0, shifted[0][1])
    shifted[-1] = (shifted[-1][0], parts)
    return tuple(shifted)


_ENDS = {"decoder": 3, "vit": 3}
"""Parts that are not layers: the embedding in front, norm and head or projector behind."""


def _request(name: str, module: ModuleConfig) -> LayoutRequest:
    layout = module.layout
    return LayoutRequest(
        module=name, ranks=None if layout.ranks is None else tuple(layout.ranks), pp=layout.pp,
        dp_replicate=layout.dp_replicate, dp_shard=layout.dp_shard, cp=layout.cp, tp=layout.tp,
        ep=layout.expert.ep, etp=layout.expert.etp,
        sequence_parallel=layout.sequence_parallel, reshard=layout.reshard,
    )  # fmt: skip
