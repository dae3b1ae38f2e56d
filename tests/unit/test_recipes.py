"""The recipes are whole: each loads, is proved, and has the parameters of the model that it is named after."""

from pathlib import Path

import pytest

from counterpoint.check.proof import check_plan
from counterpoint.config import load_config
from counterpoint.families.decoder.spec import DecoderConfig
from tests.unit.planned import planned

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))

HIDDEN, WORDS, EXPERT = 2688, 131072, 2 * 2688 * 1856
ATTENTION = 2 * HIDDEN * 32 * 128 + 2 * HIDDEN * 8 * 128 + HIDDEN
STREAMS = 4096 + 2 * 8 * 128
"""Channels of Mamba-2 that are convolved: x, B and C."""

MAMBA = HIDDEN * (4096 + STREAMS + 64) + 4096 * HIDDEN + 5 * STREAMS + 3 * 64 + 4096 + HIDDEN
EXPERTS = 128 * EXPERT + 2 * HIDDEN * 3712 + 128 * HIDDEN + HIDDEN
WHISPER_BASE = (
    (3 * 80 + 1) * 512 + (3 * 512 + 1) * 512 + 1500 * 512
    + 6 * (4 * 512**2 + 3 * 512 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512)
    + 2 * 512
)  # fmt: skip
"""Whisper base's encoder: two convolutions, positions, layers without a bias of keys, a norm."""

RADIO = 32 * (4 * 1280**2 + 2 * 1280 * 5120 + 4 * 1280 + 5120 + 1280 + 4 * 1280) + 768 * 1280 + (128**2 + 8) * 1280


def nemotron(pattern: str) -> tuple[int, int]:
    """Parameters of the language model by its layers, and how many of them a row meets."""
    layers = {"M": MAMBA, "E": EXPERTS, "*": ATTENTION}
    total = sum(layers[kind] for kind in pattern) + 2 * WORDS * HIDDEN + HIDDEN
    return total, total - pattern.count("E") * (128 - 6) * EXPERT


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_proved_and_has_a_twin(recipe: Path) -> None:
    config = load_config(recipe)
    proof = check_plan(planned(config))
    assert proof.ranks == config.world.size
    twin = load_config(FOLDER / "tiny" / recipe.name)
    assert planned(twin, 1000).graph == planned(config).graph or "qwen" in recipe.stem
    assert recipe.read_text().startswith("# ")


@pytest.mark.parametrize(("name", "world"), [("20l", 8), ("54l", 72)])
def test_nemotron_and_radio_have_their_parameters(name: str, world: int) -> None:
    plan = planned(load_config(FOLDER / f"nemotron6-moe-vlm-{name}.yaml"))
    assert plan.placement.world_size == world
    vision, language = plan.facts["vision"], plan.facts["language"]
    projector = 5120 * HIDDEN + HIDDEN
    assert vision.parameters == RADIO + projector
    config = load_config(FOLDER / f"nemotron6-moe-vlm-{name}.yaml")
    section = config.modules["language"].model
    assert isinstance(section, DecoderConfig)
    total, active = nemotron(section.pattern)
    assert (language.parameters, language.active_parameters) == (total, active)
    billions = {"20l": (11.5, 1.78), "54l": (31.7, 3.66)}[name]
    assert (round(total / 1e9, 1), round(active / 1e9, 2)) == billions
    assert round(RADIO / 1e6) == 652


def test_the_disjoint_nemotron_differs_in_its_ranks_alone() -> None:
    colocated, disjoint = (load_config(FOLDER / f"nemotron6-moe-vlm-20l{end}.yaml") for end in ("", "-disjoint"))
    assert disjoint.modules.keys() == colocated.modules.keys()
    for name, module in disjoint.modules.items():
        assert module.model_dump(exclude={"layout"}) == colocated.modules[name].model_dump(exclude={"layout"})
    assert disjoint.training.precision == colocated.training.precision


def test_llava_audio_is_llava_with_the_encoder_of_whisper_base() -> None:
    plan = planned(load_config(FOLDER / "llava-audio.yaml"))
    llava = planned(load_config(FOLDER / "llava-1.5-7b.yaml"))
    projector = 4 * 512 * 4096 + 4096 + 4096 * 4096 + 4096
    assert WHISPER_BASE == 20_590_592
    assert plan.facts["audio"].parameters == WHISPER_BASE + projector
    assert {module: plan.facts[module] for module in llava.facts} == dict(llava.facts)
