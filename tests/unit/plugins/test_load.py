"""Plug-ins are loaded because a config names them, before its sections are read, and for no other reason."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterpoint.config.load import load_config, load_run_config, read_run_config
from counterpoint.errors import ConfigError
from counterpoint.families import FAMILIES
from counterpoint.layers import LAYERS
from counterpoint.losses import LOSSES
from counterpoint.modalities import MODALITIES
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.rates import LEARNING_RATES, learning_rate
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.plugins.fits import check_types
from counterpoint.plugins.load import load_plugins, versions_of
from counterpoint.plugins.plugin import Plugin
from counterpoint.projectors import PROJECTORS
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.metric import METRICS
from counterpoint.setup.run import build_plan
from counterpoint.sources import SOURCES
from counterpoint.verify.rules import rate
from tests.unit.plugins.conftest import Install

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"

CURVE = """
from typing import Literal

from counterpoint.optimizers.rates import LearningRateSection, RateKind
from counterpoint.plugins.plugin import Plugin

class FallingSection(LearningRateSection):
    kind: Literal["falling", "cosine", "Falling"]

FALLING = RateKind(section=FallingSection, left=lambda section, step, steps: (1.0 - step / steps) ** 2)
PLUGIN = Plugin(learning_rates={"falling": FALLING})
"""

LAYER = """
from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.layer import LayerKind, LayerSection
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plugins.plugin import Plugin

class GainSection(LayerSection):
    kind: Literal["KIND"]
    size: int = 3

def facts(name, section, hidden):
    return PartFacts(name=name, tensors=(("gain", (hidden,)),), flops_per_row=hidden, hidden_out=hidden)

GAIN = LayerKind(section=GainSection, facts=facts, cuts=lambda section: Cuts(), layer="brought_gain:layer")
PLUGIN = Plugin(layers={"gain": GAIN})
"""

FALLING = "modules.language.optimizer.schedule.kind=falling"
GAINS = ["modules.language.model.layers={G: {kind: gain, size: 5}}", "modules.language.model.pattern='*-*G'"]


def test_a_named_plugin_is_loaded_before_sections_are_read(install: Install) -> None:
    install("brought-curve", CURVE)
    config = load_config(EXAMPLE, ["run.plugins=[brought-curve]", FALLING])
    assert config.modules["language"].optimizer.schedule.kind == "falling"
    assert versions_of(config.run.plugins) == {"brought-curve": "1.0"}
    assert LEARNING_RATES["falling"].left(config.modules["language"].optimizer.schedule, 1, 2) == 0.25


def test_the_reference_takes_the_curve_of_a_plugin(install: Install) -> None:
    """It is said once, so verify compares only what is around it: warm-up, and the lowest rate."""
    install("brought-curve", CURVE)
    schedule = "modules.language.optimizer.schedule={kind: falling, warmup_steps: 2, minimum: 0.1}"
    section = load_config(EXAMPLE, ["run.plugins=[brought-curve]", schedule]).modules["language"].optimizer
    found = [learning_rate(section.lr, section.schedule, step, 6) for step in range(6)]
    assert found == pytest.approx([rate(section, step, 6) for step in range(6)], rel=1e-12)
    assert len(set(found)) == 6


def test_an_unnamed_plugin_is_not_imported(install: Install) -> None:
    install("brought-curve", CURVE)
    with pytest.raises(ConfigError, match=r'schedule\.kind: got "falling", expected "constant"'):
        load_config(EXAMPLE, [FALLING])
    assert "brought_curve" not in sys.modules


@pytest.mark.parametrize("given", ["run={dir: runs/x, plugins: [brought-curve]}", "run.plugins=['brought-curve']"])
def test_overrides_name_plugins_in_any_form(install: Install, given: str) -> None:
    install("brought-curve", CURVE)
    assert load_config(EXAMPLE, [given, FALLING]).run.plugins == ("brought-curve",)


def test_a_config_sees_the_plugins_alone_that_it_names(install: Install) -> None:
    """Also after another config of the same process had them, which goes on as it was."""
    install("brought-curve", CURVE)
    first = load_config(EXAMPLE, ["run.plugins=[brought-curve]", FALLING])
    with pytest.raises(ConfigError, match=r'schedule\.kind: got "falling", expected "constant"'):
        load_config(EXAMPLE, [FALLING])
    assert "falling" not in list(LEARNING_RATES)
    schedule = first.modules["language"].optimizer.schedule
    assert learning_rate(1.0, schedule, 1, 2) == 0.25
    build_plan(first)
    assert "falling" in list(LEARNING_RATES)
    build_plan(load_config(EXAMPLE))
    assert "falling" not in list(LEARNING_RATES)
    assert load_config(first) == pickle.loads(pickle.dumps(first)) == first


def test_plugins_of_different_configs_may_have_the_same_names(install: Install) -> None:
    install("brought-curve", CURVE)
    install("brought-line", CURVE.replace("** 2", "** 1"))
    for name, left in (("brought-curve", 0.25), ("brought-line", 0.5), ("brought-curve", 0.25)):
        config = load_config(EXAMPLE, [f"run.plugins=[{name}]", FALLING])
        assert learning_rate(1.0, config.modules["language"].optimizer.schedule, 1, 2) == left
    with pytest.raises(
        ConfigError, match=r"plugins\.1: brought-line 1\.0: learning_rate: got the name 'falling', which"
    ):
        load_config(EXAMPLE, ["run.plugins=[brought-curve, brought-line]"])


def test_what_a_plugin_registers_when_it_is_imported_comes_and_goes_with_it(install: Install) -> None:
    code = "from counterpoint.plan.schedule import gpipe, register_schedule\nregister_schedule('mirrored', gpipe)\n"
    install("brought-curve", code + CURVE)
    for _time in range(2):
        config = load_config(EXAMPLE, ["run.plugins=[brought-curve]", "schedule.kind=mirrored"])
        assert config.schedule.kind == "mirrored"
        with pytest.raises(ConfigError, match=r'schedule\.kind: got "mirrored"'):
            load_config(EXAMPLE, ["schedule.kind=mirrored"])
    assert build_plan(config).schedule.programs


def test_a_plugin_is_loaded_once(install: Install) -> None:
    install("brought-curve", CURVE)
    for _time in range(2):
        load_plugins(["brought-curve", "brought-curve"])
    assert list(LEARNING_RATES).count("falling") == 1


@pytest.mark.parametrize(("name", "remedy"), [
    ("nothing-of-the-kind", "pip install nothing-of-the-kind"),
    ("brought-curves", "did you mean brought-curve?"),
])  # fmt: skip
def test_one_that_is_not_installed_is_named(install: Install, name: str, remedy: str) -> None:
    install("brought-curve", CURVE)
    with pytest.raises(ConfigError) as caught:
        load_config(EXAMPLE, [f"run.plugins=[{name}]", FALLING])
    assert str(caught.value) == (
        f'{EXAMPLE}: run.plugins.0: got "{name}", expected an installed distribution with an entry point in the group '
        f"counterpoint.plugins, those that are here: brought-curve; {remedy}"
    )


def test_a_name_that_is_not_normalised_is_refused(install: Install) -> None:
    install("brought-curve", CURVE)
    with pytest.raises(ConfigError, match=r'run\.plugins\.0: got "Brought_Curve", expected the name of a distribution'):
        load_config(EXAMPLE, ["run.plugins=[Brought_Curve]"])


@pytest.mark.parametrize(("code", "points", "sentence"), [
    (CURVE, "", "a distribution without an entry point in the group counterpoint.plugins"),
    ("import nothing_of_the_kind", "here = {module}:PLUGIN",
     r'importing brought-bad 1\.0, by its entry point here = "brought_bad:PLUGIN", raised ModuleNotFoundError: No '
     "module named 'nothing_of_the_kind'"),
    ("raise SystemExit(0)", "here = {module}:PLUGIN", "raised SystemExit: 0; expected a plug-in that can be imported"),
    ("PLUGIN = 3", "here = {module}:PLUGIN", r"brought-bad 1\.0: got a int at its entry point here"),
    (CURVE, "here = {module}:OTHER", "raised AttributeError"),
    (CURVE.replace('{"falling"', '{"cosine"'), "here = {module}:PLUGIN",
     r"brought-bad 1\.0: learning_rate: got the name 'cosine', which is taken"),
    (CURVE.replace('{"falling"', '{"Falling"'), "here = {module}:PLUGIN", "expected lowercase letters, digits and _"),
    (LAYER.replace("KIND", "gian"), "here = {module}:PLUGIN",
     r'layer "gain": got the section GainSection with kind: Literal\[.gian.\], expected kind: Literal\["gain"\]'),
    (LAYER.replace("KIND", "gain").replace("size: int", "size: type(PartFacts.__eq__) | int"), "here = {module}:PLUGIN",
     'layer "gain": building the section GainSection raised PydanticSchemaGenerationError: .*; expected keys of types'),
    (LAYER.replace("KIND", "gain").replace("size: int", "size: 'Later | int'"), "here = {module}:PLUGIN",
     "building the section GainSection raised PydanticUndefinedAnnotation: name 'Later' is not defined; expected"),
])  # fmt: skip
def test_what_is_no_plugin_is_named_and_nothing_is_registered(
    install: Install, code: str, points: str, sentence: str
) -> None:
    install("brought-bad", code, points=points)
    before = list(LEARNING_RATES)
    with pytest.raises(ConfigError, match=rf"run\.plugins\.0: .*{sentence}"):
        load_config(EXAMPLE, ["run.plugins=[brought-bad]"])
    assert list(LEARNING_RATES) == before


def _with(kinds: str) -> str:
    """A plug-in that brings something else beside its curve."""
    return CURVE.replace('={"falling": FALLING})', f'={{"falling": FALLING}}, {kinds})')


@pytest.mark.parametrize(("code", "sentence"), [
    (_with('optimizers={"fast": "adamw"}'), 'optimizers["fast"]: got a str "adamw", expected an OptimizerKind'),
    (_with('optimizers={"fast": object()}'),
     'optimizers["fast"]: got an object of the class object, expected an OptimizerKind'),
    (_with("layers=[3]"), "layers: got a list [3], expected a Mapping"),
    (_with("losses={'even': None}"), 'losses["even"]: got a NoneType null, expected a ScoreLoss or an ItemLoss'),
    (_with('modalities=("smell",)'), 'modalities[0]: got a str "smell", expected a Modality'),
    (_with("metrics={'bits': 8}"), 'metrics["bits"]: got an int 8, expected a function'),
    (_with("schedules={2: None}"), "schedules, the key 2: got an int 2, expected a str"),
    (_with("sources={'waves': int}"), 'sources["waves"]: got the class int, expected a class derived from Section'),
    (CURVE.replace("section=FallingSection", "section='falling'"),
     'learning_rates["falling"].section: got a str "falling", expected a class derived from LearningRateSection'),
    (CURVE.replace("left=lambda section, step, steps: ", "left="). replace("(1.0 - step / steps) ** 2", "0.5"),
     'learning_rates["falling"].left: got a float 0.5, expected a function'),
    (LAYER.replace("KIND", "gain").replace('layer="', 'steers=("size", 3), layer="'),
     'layers["gain"].steers[1]: got an int 3, expected a str'),
    (_with("sources={'waves': FallingSection}"),
     'sources["waves"]: got the class FallingSection without weight, take, sequence_tokens, packing, max_patches, '
     "split, folder, called, problems, missing, content, open, expected the keys and methods of "
     "counterpoint.extend.Entry"),
])  # fmt: skip
def test_a_value_of_a_wrong_type_is_named_and_nothing_is_registered(install: Install, code: str, sentence: str) -> None:
    install("brought-bad", code)
    before = list(LEARNING_RATES)
    with pytest.raises(ConfigError) as caught:
        load_config(EXAMPLE, ["run.plugins=[brought-bad]"])
    assert str(caught.value).startswith(f"{EXAMPLE}: run.plugins.0: brought-bad 1.0: {sentence}")
    assert "\n" not in str(caught.value)
    assert list(LEARNING_RATES) == before


def test_our_own_kinds_are_of_their_types() -> None:
    ours = Plugin(
        families=dict(FAMILIES.items()), layers=dict(LAYERS.items()), projectors=dict(PROJECTORS.items()),
        modalities=tuple(MODALITIES.values()), sources=dict(SOURCES.items()), optimizers=dict(OPTIMIZERS.items()),
        losses=dict(LOSSES.items()), schedules=dict(SCHEDULES.items()), learning_rates=dict(LEARNING_RATES.items()),
        recorders=dict(RECORDERS.items()), metrics=dict(METRICS.items()),
    )  # fmt: skip
    check_types(ours, "ours")


def test_of_a_plugin_with_a_wrong_kind_nothing_is_registered(install: Install) -> None:
    install(
        "brought-bad",
        CURVE.replace("})", '}, schedules={"gpipe": ScheduleKind(gpipe)})').replace(
            "import Plugin", "import Plugin\nfrom counterpoint.plan.schedule import ScheduleKind, gpipe"
        ),
    )
    with pytest.raises(ConfigError, match="schedule: got the name 'gpipe', which is taken"):
        load_plugins(["brought-bad"])
    assert "falling" not in LEARNING_RATES
    assert SCHEDULES["gpipe"] is not None


def test_a_config_travels_with_its_plugins(install: Install, tmp_path: Path) -> None:
    """Another process loads them before it reads sections, whatever it was sent."""
    install("brought-gain", LAYER.replace("KIND", "gain"))
    config = load_config(EXAMPLE, ["run.plugins=[brought-gain]", *GAINS])
    assert pickle.loads(pickle.dumps(config)) == config
    file = tmp_path / "config.pickle"
    file.write_bytes(pickle.dumps((3, config)))
    code = (
        f"import pickle, sys; sys.path[:0] = {sys.path!r}\n"
        f"_three, config = pickle.load(open({str(file)!r}, 'rb'))\n"
        "from counterpoint.layers import LAYERS\n"
        "sys.exit(not ('gain' in LAYERS and config.modules['language'].model.layers['G'].size == 5))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_is_read_without_its_plugins(install: Install, tmp_path: Path) -> None:
    """Reading imports nothing, though what is not known is there as it stands; going on does."""
    install("brought-gain", LAYER.replace("KIND", "gain"))
    install("brought-curve", CURVE)
    data: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    data["run"]["plugins"] = ["brought-gain", "brought-curve"]
    language = data["modules"]["language"]
    language["model"] |= {"pattern": "*-*G", "layers": {"G": {"kind": "gain", "size": 5}}}
    language["optimizer"]["schedule"] = {"kind": "falling"}
    data["schedule"]["kind"] = "mirrored"
    data["data"]["evaluation"] = [{"parquet": "a.parquet", "split": "held_out"}]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    read = read_run_config(file)
    assert not {"brought_gain", "brought_curve"} & sys.modules.keys()
    resolved = read.resolved()
    assert resolved["modules"]["language"]["model"]["layers"] == {"G": {"kind": "gain", "size": 5}}
    own = {"weight": 1.0, "take": None, "sequence_tokens": None, "packing": True, "max_patches": None}
    assert resolved["data"]["evaluation"] == [{"parquet": "a.parquet", "split": "held_out", **own}]
    assert read.data.evaluation[0].split == "held_out"
    assert read.modules["language"].optimizer.schedule.kind == "falling"
    assert read.schedule.kind == "mirrored"
    del data["data"]["evaluation"], data["schedule"]
    file.write_text(yaml.safe_dump(data))
    model: Any = load_run_config(file).modules["language"].model
    assert model.layers["G"].size == 5
    assert "brought_gain" in sys.modules
