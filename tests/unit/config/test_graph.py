"""Several encoders, adapters and depths: what makes a graph, and what is refused with a sentence."""

from typing import Any

import pytest

from counterpoint.config import load_config
from counterpoint.config.graph import entering_width, marks_of
from counterpoint.errors import ConfigError
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.vit.spec import VitConfig
from counterpoint.projectors.mlp.spec import MlpProjectorConfig
from tests.unit.planned import planned

ADAPTER = {"kind": "adapter", "layers": 2, "hidden": 64, "heads": 4, "ffn": 96, "projector": {"kind": "linear"}}
VISION_TO, ADAPTER_TO = {"source": "vision", "target": "adapter"}, {"source": "adapter", "target": "language"}


@pytest.fixture
def towers(emoji: dict[str, Any]) -> dict[str, Any]:
    """The demo with a second encoder, and an adapter behind the first one; all on the same ranks."""
    modules = emoji["modules"]
    modules["detail"] = modules["vision"] | {"model": modules["vision"]["model"] | {"merge": 1}}
    modules["adapter"] = modules["vision"] | {"model": dict(ADAPTER)}
    for module in modules.values():
        module["layout"] = {"ranks": [0, 1, 2, 3]}
    emoji["edges"] = [
        VISION_TO, ADAPTER_TO,
        {"source": "detail", "target": "language", "mark": "<detail>", "depths": [{"after": 0, "into": 1}]},
    ]  # fmt: skip
    return emoji


def test_a_graph_of_encoders_and_an_adapter(towers: dict[str, Any]) -> None:
    config = load_config(towers)
    language = config.modules["language"].model
    assert isinstance(language, DecoderConfig)
    width = language.hidden
    assert marks_of(config) == {"vision": "<image>", "detail": "<detail>"}
    assert entering_width(config, "adapter") == entering_width(config, "language") == width
    plan = planned(config, 100)
    assert plan.graph.modules.index("vision") < plan.graph.modules.index("adapter")
    assert [part.name for part in plan.facts["detail"].parts][1:4] == ["layers.0", "taps.0", "layers.1"]
    assert "inserts.1" in [part.name for part in plan.facts["language"].parts]
    assert plan.facts["vision"].hidden_out == plan.facts["adapter"].hidden_in == width
    assert [str(link) for link in plan.stages.links if not link.is_hop] == [
        "vision.0>adapter.0", "adapter.0>language.0", "detail.0>language.0", "detail.0>language.0/0-1",
    ]  # fmt: skip


def test_depths_stay_with_their_layers_in_every_split(towers: dict[str, Any]) -> None:
    towers["modules"]["detail"]["layout"] |= {"pp": 2, "split": [1, 1]}
    plan = planned(load_config(towers), 100)
    names = [part.name for part in plan.facts["detail"].parts]
    stages = [names[start:stop] for start, stop in plan.splits["detail"]]
    assert stages == [["embed", "layers.0", "taps.0"], ["layers.1", "norm", "projector"]]
    ends = {str(link.source) for link in plan.stages.links if link.after == 0}
    assert ends == {"detail.0"}


def test_a_source_with_two_consumers_has_one_width(towers: dict[str, Any]) -> None:
    towers["edges"].append({"source": "vision", "target": "language"})
    assert len(load_config(towers).edges) == 4
    towers["modules"]["adapter"]["model"]["inputs"] = 40
    with pytest.raises(ConfigError, match="edges: got rows of vision with 40 into adapter, 128 into language columns"):
        load_config(towers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("edges.2.mark=null", r'edges: got the mark "<image>" of 2 modules, expected a mark of its own'),
        ("edges.1.mark=<x>", r'edges\.1\.mark: got "<x>", expected null, because rows that leave adapter'),
        ("edges.0.target=language", r"edges: got 0 edges to the module adapter, expected at least one"),
        ("edges.1.target=vision", r"edges\.1\.target: got vision, whose model is of kind vit"),
        ("edges.1.source=language", r"edges\.1\.source: got language, whose model is of kind decoder"),
        ("edges.2.depths.0.after=3", r"edges\.2\.depths\.0\.after: got 3, expected a layer of detail, 0 to 1"),
        ("edges.2.depths.0.into=99", r"edges\.2\.depths\.0\.into: got 99, expected a layer of language"),
        (
            "modules.vision.model.tap_norm=rms",
            r'tap_norm: got "rms", expected none, because no edge from vision has depths',
        ),
        (
            "modules.adapter.model.projector.norm_eps=1.0e-5",
            r"adapter\.model\.projector\.norm_eps: got 1e-05, expected the default, 1e-06, because there is no norm",
        ),
        ("edges.0.depths=[{after: 0, into: 0}]", r"edges\.0\.depths: got 1 depths, expected none"),
        (
            "edges.2.depths=[{after: 0, into: 0}, {after: 0, into: 1}]",
            r"edges\.2\.depths\.1\.after: got 0 again, expected another layer",
        ),
        ("modules.adapter.model.heads=5", r"modules\.adapter\.model\.hidden: got 64, expected a multiple"),
        ("modules.adapter.layout.tp=3", r"modules\.adapter\.model\.heads: got 4, expected a multiple"),
    ],
)
def test_what_is_no_graph_is_refused(towers: dict[str, Any], change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(towers, [change])


def test_norms_of_other_depths_read_the_projectors_number(towers: dict[str, Any]) -> None:
    norms = ["modules.detail.model.tap_norm=layer", "modules.detail.model.projector.norm_eps=1.0e-5"]
    detail = load_config(towers, norms).modules["detail"].model
    assert isinstance(detail, VitConfig)
    assert isinstance(detail.projector, MlpProjectorConfig)
    assert detail.projector.norm_eps == 1e-5


def test_a_cycle_is_refused(towers: dict[str, Any]) -> None:
    modules = towers["modules"]
    modules["second"] = modules["adapter"]
    towers["edges"] += [{"source": "adapter", "target": "second"}, {"source": "second", "target": "adapter"}]
    with pytest.raises(ConfigError, match="edges: got the cycle"):
        planned(load_config(towers), 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["modules.vision.recompute=full"], r'modules\.vision\.recompute: got "full", expected none, because no'),
        (["schedule.run_ahead=1", "modules.adapter.train=none", "modules.detail.train=none", "schedule.encoder=fill"],
         r'schedule\.encoder: got "fill", expected the default, because all encoders run whole steps ahead'),
        (["schedule.run_ahead=1", "modules.adapter.train=none", "modules.detail.train=none", "schedule.buffer=2"],
         r"schedule\.buffer: got 2, expected the default"),
        (["schedule.run_ahead=1", "modules.vision.train=all", "modules.adapter.train=none"],
         r"schedule\.run_ahead: got 1, expected an encoder with train: none that reads nothing trained"),
    ],
)  # fmt: skip
def test_what_no_gradient_reaches_takes_no_key_about_backward_or_order(
    towers: dict[str, Any], changes: list[str], message: str
) -> None:
    towers["modules"]["vision"]["train"] = "none"
    with pytest.raises(ConfigError, match=message):
        load_config(towers, changes)


def test_what_is_frozen_behind_what_trains_has_a_backward_to_compute_again_for(towers: dict[str, Any]) -> None:
    towers["modules"]["adapter"]["train"] = "none"
    assert load_config(towers, ["modules.adapter.recompute=full"]).modules["adapter"].recompute == "full"
