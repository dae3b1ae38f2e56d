"""Tables of tensor names of sublayers, ours to Hugging Face's, and the links that follow from them."""

from collections.abc import Iterator, Mapping

from counterpoint.convert.links import Link, Same, Stacked
from counterpoint.families.decoder.spec import DecoderConfig

BOTH = ("weight", "bias")
Table = Mapping[str, str]

ATTENTION: Table = {f"attention.{x}.weight": f"{x}_proj.weight" for x in "qkvo"}
QKV_BIAS: Table = {f"attention.{x}.bias": f"{x}_proj.bias" for x in "qkv"}
OUTPUT_BIAS: Table = {"attention.o.bias": "o_proj.bias"}
HEAD_NORMS: Table = {f"attention.{x}_norm.weight": f"{x}_norm.weight" for x in "qk"}
GATED_MLP: Table = {f"mlp.{x}.weight": f"{x}_proj.weight" for x in ("gate", "up", "down")}
GATED_MLP_BIAS: Table = {f"mlp.{x}.bias": f"{x}_proj.bias" for x in ("gate", "up", "down")}
MLP: Table = {f"mlp.{x}.weight": f"{x}_proj.weight" for x in ("up", "down")}
ROUTER: Table = {"moe.router.weight": "gate.weight"}
ROUTER_BIAS: Table = {"moe.router.bias": "gate.e_score_correction_bias"}
SHARED_EXPERT: Table = {f"moe.shared.{x}.weight": f"shared_experts.{x}_proj.weight" for x in ("up", "down")}
GATED_EXPERTS: Table = {f"moe.experts.{x}": f"{x}_proj.weight" for x in ("gate", "up", "down")}
STACKED_EXPERTS: Table = {f"moe.experts.{x}": f"{x}_proj" for x in ("up", "down")}
EXPERTS: Table = {f"moe.experts.{x}": f"{x}_proj.weight" for x in ("up", "down")}


def renamed(ours: str, theirs: str, *tables: Table) -> Iterator[Link]:
    """Links of tensors that only change their names, below these two prefixes."""
    for table in tables:
        for our_name, their_name in table.items():
            yield Same((f"{ours}.{our_name}",), (f"{theirs}.{their_name}",))


def experts(ours: str, theirs: str, table: Table, count: int) -> Iterator[Link]:
    """Links of stacked experts to `count` experts one by one."""
    for our_name, their_name in table.items():
        ones = tuple(f"{theirs}.experts.{i}.{their_name}" for i in range(count))
        yield Stacked((f"{ours}.{our_name}",), ones)


def ends(section: DecoderConfig, embedding: str, norm: str) -> Iterator[Link]:
    """Links of the parts before and after the layers; a tied matrix is stored once, as the embedding."""
    yield Same(("embed.weight",), (embedding,))
    yield Same(("norm.weight",), (norm,))
    if not section.tied:
        yield Same(("head.weight",), ("lm_head.weight",))
