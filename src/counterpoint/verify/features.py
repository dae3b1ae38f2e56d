"""What a case exercises, read off its config and its first batches."""

from counterpoint.config.schema import Config, VitConfig
from counterpoint.data.corpus import open_corpus
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.build import build_plan
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.sizes import DecoderSizes

_STEPS = 2


def features_of(config: Config) -> frozenset[str]:
    """Names of the features of a config with synthetic data; raises what building its plan raises."""
    plan = build_plan(config, None)
    sizes = plan.sizes[plan.sink]
    assert isinstance(sizes, DecoderSizes), "documents enter a decoder"
    corpus = open_corpus(config, None, sizes.vocab)
    names = {f"placement {plan.placement.kind}", f"schedule {config.schedule.kind}"}
    names |= _microbatches(config.schedule.microbatches) | _ranks(plan)
    names |= {
        "packing" if config.data.packing else "one document a sequence",
        f"balance {config.data.balance}",
    }
    names |= _variant(sizes, plan.layouts[plan.sink])
    for module, layout in plan.layouts.items():
        role = "vision" if isinstance(config.modules[module].model, VitConfig) else "language"
        names |= {f"{role} {name}" for name in _layout(layout, config.modules[module].layout.split != "even")}
    for step in range(_STEPS):
        names |= _batch(plan, plan.batch(step, corpus.packs(step)))
    return frozenset(names)


def _variant(sizes: DecoderSizes, layout: Layout) -> set[str]:
    names = set()
    if sizes.tied and layout.pp > 1:
        names.add("embeddings tied over pp")
    if layout.cp > 1 and sizes.kv_heads // layout.tp % layout.cp:
        names.add("cp over fewer key-value heads")
    if sizes.mamba is not None and layout.cp > 1:
        names.add("cp over Mamba-2")
    if sizes.rope_sections is not None:
        names.add("positions of three axes")
    if sizes.qkv_bias:
        names.add("bias of queries, keys and values")
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


def _batch(plan: Plan, batch: BatchPlan) -> set[str]:
    names = set()
    microbatches = range(plan.microbatches)
    for edge in plan.graph.edges:
        empty = [batch.is_empty(edge.source, m) for m in microbatches]
        if all(empty):
            names.add("a step without images")
        elif any(empty):
            names.add("a microbatch without images")
        for m in microbatches:
            spans = [bool(share.spans) for share in batch.shares[edge.source][m]]
            if any(spans) and not all(spans):
                names.add("an encoder lane with an empty share")
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
