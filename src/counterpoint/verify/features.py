"""The features that a case exercises, from its config and its first batches."""

from collections.abc import Mapping
from math import gcd
from typing import Any

from counterpoint.config.graph import modalities_of
from counterpoint.config.schema import Config, ModuleConfig
from counterpoint.families import family_of
from counterpoint.families.decoder.spec import MtpConfig
from counterpoint.kinds.family import DOCUMENTS, ROWS
from counterpoint.kinds.modality import Modality
from counterpoint.modalities.images.spec import IMAGES
from counterpoint.plan.activations import PARTS
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import Layout
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.plan import Plan
from counterpoint.setup.data import open_corpus
from counterpoint.setup.plan import models_of, plan_of

_STEPS = 2


def features_of(config: Config) -> frozenset[str]:
    """Names of the features of a config with synthetic data; raises whatever building its plan raises."""
    plan = plan_of(config, models_of(config, None))
    facts, model = plan.facts[plan.sink], config.modules[plan.sink].model
    corpus = open_corpus(config, None, facts.vocab, facts.extra_depths)
    names = {f"placement {plan.placement.kind}"}
    names |= _schedule(config, plan) | _microbatches(config.schedule.microbatches) | _ranks(plan) | _graph(plan)
    names |= {
        "packing" if config.data.packing else "one document a sequence",
        f"balance {config.data.balance}",
    }
    names |= _variant(model, plan.layouts[plan.sink]) | _windows(facts, plan.layouts[plan.sink])
    taken = modalities_of(config)
    for name, module in config.modules.items():
        enters = taken[name].name if name in taken else family_of(module.model).reads
        role = _ROLES.get(enters, enters)
        found = _layout(plan.layouts[name], module.layout.split != "even") | _training(module)
        names |= {f"{role} {feature}" for feature in found} | _optimizer(module, plan, name)
    for step in range(_STEPS):
        names |= _batch(plan, plan.batch(step, corpus.packs(step)), taken)
    names |= {f"loss {loss.kind}" for losses in plan.losses.values() for loss in losses}
    return frozenset(names)


_ROLES = {DOCUMENTS: "language", ROWS: "adapter", IMAGES.name: "vision"}
"""A module's name in the names of features, by what enters it, where it is not the name of its items."""


def _schedule(config: Config, plan: Plan) -> set[str]:
    schedule, encoders = config.schedule, len(config.modules) > 1
    names = {f"schedule {schedule.kind}"}
    if encoders:
        names.add(f"encoders {schedule.encoder.replace('_', ' ')}")
    if schedule.encoder_group > 1:
        names.add("several microbatches at once in encoders")
    if schedule.buffer is not None:
        names.add("a bound on encoders")
    if plan.stages.ahead:
        names.add("encoders that run ahead")
    if any(layout.chunks > 1 for layout in plan.layouts.values()):
        names.add("several chunks")
    return names


def _graph(plan: Plan) -> set[str]:
    graph, names = plan.graph, set()
    if sum(not graph.incoming(module) for module in graph.modules) > 1:
        names.add("two encoders")
    if any(len(graph.outgoing(module)) > 1 for module in graph.modules):
        names.add("a source with two consumers")
    if any(edge.depths for edge in graph.edges):
        names.add("features of several depths")
    if any(link.source.stage + 1 < plan.layouts[link.source.module].stages for link in _deep(plan)):
        names.add("features from an inner stage")
    if any(link.target.stage for link in _deep(plan)):
        names.add("features into an inner stage")
    return names


def _deep(plan: Plan) -> list[Link]:
    return [link for link in plan.stages.links if link.port]


def _training(module: ModuleConfig) -> set[str]:
    names = set()
    if module.train == "none":
        names.add("frozen")
    elif module.train != "all":
        is_projector = all(pattern.startswith("projector") for pattern in module.train)
        names.add("trains its projector" if is_projector else "trains a pattern")
    if module.recompute == "full":
        names.add("recomputes all")
    elif module.recompute != "none":
        parts = set(module.recompute).intersection(PARTS)
        names |= {f"recomputes {part}" for part in parts}
        if parts != set(module.recompute):
            names.add("recomputes by kind")
    if module.recompute_keeps:
        names.add("recomputes all but attention")
    if module.offload:
        names.add("offloads activations")
    return names


def _optimizer(module: ModuleConfig, plan: Plan, name: str) -> set[str]:
    optimizer, layout = module.optimizer, plan.layouts[name]
    schedules = [optimizer.schedule, *(group.schedule for group in optimizer.groups if group.schedule is not None)]
    names = {f"learning rate {schedule.kind}" for schedule in schedules}
    if optimizer.groups:
        names.add("groups of parameters")
    if any(update.exchanges for update in plan.updates[name]):
        names.add(f"optimizer {optimizer.kind}")
        if layout.stage_size > 1:
            names.add(f"optimizer {optimizer.kind} over ranks")
        if layout.tp > 1 and layout.dp * layout.cp > 1:
            names.add(f"optimizer {optimizer.kind} over tp and shards")
        if layout.expert_size > 1 and plan.facts[name].active_parameters < plan.facts[name].parameters:
            names.add(f"optimizer {optimizer.kind} over experts")
    return names


def _variant(model: Any, layout: Layout) -> set[str]:
    names = set()
    if model.mtp is not None:
        names |= _mtp(model, model.mtp, layout)
    if model.tied and layout.pp > 1:
        names.add("embeddings tied over pp")
    names |= _groups(model.num_kv_heads, layout) | _attention(model)
    if model.mamba is not None and layout.cp > 1:
        names.add("cp over Mamba-2")
    if model.rope_sections is not None:
        names.add("positions of three axes")
    if model.qkv_bias:
        names.add("bias of queries, keys and values")
    return names


def _attention(model: Any) -> set[str]:
    names = {key.replace("_", " ") for key in ("attention_bias", "mlp_bias") if getattr(model, key)}
    if model.rope_width is not None:
        names.add("a part of each head rotates")
    if model.rope_scaling is not None:
        names.add(f"positions scaled {model.rope_scaling.kind}")
    return names


def _groups(kv_heads: int, layout: Layout) -> set[str]:
    """Features of key-value heads that are fewer than ranks."""
    pieces = gcd(kv_heads, layout.tp)
    names = set()
    if layout.cp > 1 and kv_heads // pieces % layout.cp:
        names.add("cp over fewer key-value heads")
    if pieces < layout.tp:
        names.add("copies of key-value heads over tp")
        if layout.cp > 1:
            names.add("copies of key-value heads over tp and cp")
        if kv_heads > pieces:
            names.add("copies of several key-value heads over tp")
    return names


def _windows(facts: ModelFacts, layout: Layout) -> set[str]:
    """Features of windows that limit attention to a document's last rows."""
    if not any(mask.causal and mask.window is not None for mask, _flops in facts.cost.per_pair):
        return set()
    degrees = {"cp": layout.cp, "tp": layout.tp}
    return {"causal windows", *(f"causal windows over {axis}" for axis, degree in degrees.items() if degree > 1)}


def _mtp(model: Any, mtp: MtpConfig, layout: Layout) -> set[str]:
    names = {f"predicts {1 + mtp.depths} tokens"}
    for axis, degree in (("pp", layout.pp), ("tp", layout.tp), ("cp", layout.cp)):
        if degree > 1:
            names.add(f"predicts further tokens over {axis}")
    if model.tied:
        names.add("predicts further tokens with tied words")
    if "E" in mtp.pattern:
        names.add("predicts further tokens with experts")
    return names


def _microbatches(count: int) -> set[str]:
    return {"1 microbatch" if count == 1 else "2-3 microbatches" if count < 4 else "4-8 microbatches"}


def _layout(layout: Layout, is_split_given: bool) -> set[str]:
    names = set()
    if layout.dp_shard > 1:
        names.add("dp_shard")
    if layout.dp_replicate > 1:
        names.add("dp_replicate")
    if layout.dp > 1 and layout.reshard:
        names.add("resharded")
    if layout.tp > 1:
        names.add("tp with sp" if layout.sequence_parallel else "tp without sp")
    if layout.cp > 1:
        names.add("cp")
    if layout.ep > 1:
        names.add("ep")
    if layout.etp > 1:
        names.add("etp")
    if layout.expert_size > layout.lane_size:
        names.add("ep over lanes")
    if layout.expert_size > 1 and layout.edp > 1:
        names.add("experts sharded over edp")
    if layout.pp > 1:
        names.add("pp, split given" if is_split_given else "pp, even split")
    if sum(degree > 1 for degree in (layout.dp, layout.cp, layout.tp, layout.pp)) > 1:
        names.add("several axes")
    return names


def _ranks(plan: Plan) -> set[str]:
    names = {"idle ranks"} if plan.placement.idle else set()
    edges = [(plan.layouts[edge.source], plan.layouts[edge.target]) for edge in plan.graph.edges]
    for source, target in edges:
        if source.dp % target.dp and target.dp % source.dp:
            names.add("dp counts that do not divide")
        if plan.placement.kind != "disjoint":
            continue
        if target.ranks[-1] < source.ranks[0]:
            names.add("language before vision")
        elif source.ranks[-1] > target.ranks[0]:
            names.add("interleaved rank lists")
    return names


def _batch(plan: Plan, batch: BatchPlan, taken: Mapping[str, Modality]) -> set[str]:
    names = set()
    microbatches = range(plan.microbatches)
    present: dict[str, list[bool]] = {}
    for module, lanes in batch.shares.items():
        if module == plan.sink:
            continue
        empty = [batch.is_empty(module, number) for number in range(len(lanes))]
        roots = plan.rows[module].roots or {module}
        what = next(modality.plural for name, modality in taken.items() if name in roots)
        present.setdefault(what, []).append(not all(empty))
        if any(empty) and not all(empty):
            names.add(f"a microbatch without {what}")
        for shares in lanes:
            spans = [bool(share.spans) for share in shares]
            if any(spans) and not all(spans):
                names.add("an encoder lane with an empty share")
    for what, is_present in present.items():
        if not any(is_present):
            names.add(f"a step without {what}")
        elif not all(is_present):
            names.add(f"a step without one encoder's {what}")
    losses = [_loss_tokens(batch, plan.sink, m) for m in microbatches]
    if not any(losses):
        names.add("a step without loss tokens")
    elif not all(losses):
        names.add("a microbatch without loss tokens")
    counts = [len(share.spans) for shares in batch.shares[plan.sink] for share in shares]
    if not all(counts):
        names.add("a padding microbatch")
    return names


def _loss_tokens(batch: BatchPlan, sink: str, microbatch: int) -> int:
    spans = (span for share in batch.shares[sink][microbatch] for span in share.spans)
    return sum(batch.documents[span.document].loss_tokens for span in spans)
