"""What the report tests share: plans of the examples, pages that must parse, and plans with sizes."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import assume
from hypothesis import strategies as st

from counterpoint.config.load import load_config
from counterpoint.families import facts_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan, even_split
from counterpoint.projectors.linear.spec import LinearProjectorConfig
from counterpoint.setup.run import prepare_run
from tests.unit.plan.strategies import plans

EXAMPLES = Path(__file__).parents[3] / "examples"
DECODER = Model(
    DecoderConfig(kind="decoder", pattern="*-*-*-*-*-*-", hidden=32, heads=4, kv_heads=2, ffn=64, vocab=96),
    Ends(vocab=96),
)
VIT = Model(
    VitConfig(
        kind="vit", layers=12, hidden=32, heads=4, ffn=64, patch=4, positions=8,
        image=ImageConfig(max_patches=64), projector=LinearProjectorConfig(kind="linear"),
    ),
    Ends(leaving=32),
)  # fmt: skip


def example(name: str, *overrides: str) -> tuple[Plan, BatchPlan]:
    """The plan of an example config and the batch of its first step."""
    plan, _models, corpus = prepare_run(load_config(EXAMPLES / f"{name}.yaml", overrides))
    return plan, plan.batch(0, corpus.packs(0))


@st.composite
def sized_plans(draw: st.DrawFn) -> Plan:
    """Any placement of zero to three encoders and a language model, with sizes."""
    plan = draw(plans())
    facts = {module: facts_of(VIT if module != plan.sink else DECODER) for module in plan.graph.modules}
    sized = replace(plan, facts=facts, trained={}, updates={})
    splits = {name: even_split(len(facts[name].parts), sized.layouts[name].stages) for name in facts}
    assume(all(start < stop for runs in splits.values() for start, stop in runs))
    return replace(sized, splits=splits)


class Page(HTMLParser):
    """A page as it is read: every element must be closed in its order; `text` and `sources` are what it shows."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data
