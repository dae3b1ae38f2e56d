"""What transformers and a warm start of ours say of the same folder: an answer, a loss, and every gradient."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.config.schema import InitFromConfig
from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, Stored
from counterpoint.convert.folder import ModelFolder
from counterpoint.convert.found import model_in
from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.batch import AudioBatch
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.parallelize.blocks import whole_block
from counterpoint.plan.samples import NO_LABEL
from counterpoint.train.warm.start import WarmStart
from tests.unit.judge.converted import gradients_to_ours
from tests.unit.judge.hub_folders import class_of, config_in, described, load_hub_folder
from tests.unit.judge.judge import hidden_rows, with_gradients
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import Config, gradients_of, headless, logits_of, our_module, text_batch
from tests.unit.judge.test_conformer import clips_of, packed
from tests.unit.judge.test_towers import FLOOR, LIFTED, distance
from tests.unit.judge.test_whisper import windows
from tests.unit.judge.towers import (
    GRIDS,
    RUN,
    Named,
    our_outputs,
    our_tower,
    picture_rows,
    pictures,
    qwen_outputs,
    stored,
    tower_of,
    weighted_sum,
)
from tests.unit.judge.towers import grid_of as grid_of_picture
from tests.unit.judge.wholes import joined_text, judged_logits, mean_loss, samples_of

ROWS = 21
Chains = Mapping[str, Chain]


@dataclass(frozen=True)
class Said:
    """An answer, whose values are compared, and the loss that gradients are of."""

    answer: Tensor
    loss: Tensor


Theirs = Callable[[Any], Said]
Ours = Callable[[CompositeModel, Chains], Said]


@dataclass(frozen=True)
class HubVerdict:
    """What transformers says of a folder: an answer, a loss, and gradients by module and our names."""

    answer: Tensor
    loss: float
    gradients: dict[str, Named]


def judge_folder(
    family: str, folder: Path, scratch: Path, patch: pytest.MonkeyPatch, theirs: Theirs | None = None
) -> HubVerdict:
    """Load a folder with transformers, its casts lifted, and ask it; `scratch` is for its gradients.

    It is asked `theirs`, by default about inputs that suit what the folder holds.
    """
    model = load_lifted(family, folder, patch).requires_grad_(True)
    said = (theirs or sides(family, whole_of(folder))[0])(model)
    said.loss.backward()
    _config, changed = stored(with_gradients(model), scratch)
    gradients = gradients_to_ours(whole_of(scratch), changed)
    return HubVerdict(said.answer.detach(), float(said.loss.detach()), gradients)


def load_lifted(family: str, folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """transformers' model of a folder, in float64, with its casts lifted until the patch ends."""
    loaded = load_hub_folder(family, folder)
    lift_all(loaded, patch)
    model = build_wide(family, config_in(folder))
    model.load_state_dict(loaded.state_dict())
    return model


def build_wide(family: str, config: Config) -> Any:
    """transformers' model of a config in float64, as are numbers that it makes in the default dtype as it is built."""
    torch.set_default_dtype(torch.float64)
    try:
        return class_of(family, config)(described(config)).double().eval()
    finally:
        torch.set_default_dtype(torch.float32)


def lift_all(model: Any, patch: pytest.MonkeyPatch) -> None:
    """Lift the casts in all files that a model of transformers is made of, until the patch ends."""
    files = {type(module).__module__ for module in model.modules()}
    names = sorted(file for file in files if file.startswith("transformers.models."))
    for file in (*names, "transformers.vision_utils", "transformers.modeling_rope_utils"):
        lift_casts(patch, importlib.import_module(file))


def whole_of(folder: Path) -> CompositeModel:
    """What a folder holds."""
    return model_in(ModelFolder(folder))[0]


def start_folder(family: str, folder: Path) -> tuple[Said, dict[str, Named]]:
    """What modules say that start warm from a folder, and their gradients, after a backward."""
    whole = whole_of(folder)
    chains = chains_of(whole, {name: _values_of(name, one, folder) for name, one in whole.modules.items()})
    said = sides(family, whole)[1](whole, chains)
    said.loss.backward()
    return said, {module: gradients_of(chain) for module, chain in chains.items()}


def assert_same(verdict: HubVerdict, said: Said, gradients: Mapping[str, Named]) -> None:
    """Fail unless an answer, a loss, and every gradient are the verdict's."""
    assert said.answer.shape == verdict.answer.shape
    assert distance(said.answer.detach(), verdict.answer) <= LIFTED
    assert abs(float(said.loss.detach()) - verdict.loss) <= LIFTED * abs(verdict.loss)
    for module, expected in verdict.gradients.items():
        found = gradients[module]
        # What has no gradient are buffers; what only we have is the projector that changes nothing.
        trained = [name for name in found if name in expected or not name.startswith("projector.")]
        floor = FLOOR * max(float(expected[name].abs().max()) for name in trained)
        different = {name: distance(found[name], expected[name], floor) for name in trained}
        assert {name: value for name, value in different.items() if value > LIFTED} == {}, module


def _values_of(module: str, one: Stored, folder: Path) -> Named:
    fresh = ("projector.*",) if one.adds_projector else ()
    return started(module, one.model, InitFromConfig(path=str(folder), fresh=fresh))


def started(module: str, model: Model, init: InitFromConfig) -> Named:
    """A module's values as a run that starts from a folder has them, without those that it lacks."""
    values, fresh = WarmStart(module, model, init).open()
    with torch.device("meta"):
        shapes = build_chain(parts_of(model)).state_dict()
    found = {n: torch.full(t.shape, torch.nan, dtype=torch.float64) for n, t in shapes.items() if n not in fresh}
    values.fill({name: (whole_block(name, tuple(tensor.shape)), tensor) for name, tensor in found.items()})
    return found


def chains_of(whole: CompositeModel, weights: Mapping[str, Named]) -> dict[str, Chain]:
    """Our models with these weights; an encoder without a projector of its own has one that changes nothing."""
    chains: dict[str, Chain] = {}
    for name, one in whole.modules.items():
        if name == AUDIO and one.adds_projector:
            chains[name] = headless(one.model.section, weights[name])
        elif name == VISION and len(whole.modules) == 1:
            chains[name] = our_tower(tower_of(whole), weights[name])
        else:
            chains[name] = our_module(one.model, weights[name])
    return chains


def sides(family: str, whole: CompositeModel) -> tuple[Theirs, Ours]:
    """How transformers and we answer for a folder of a family, of inputs that suit what the folder holds."""
    if len(whole.modules) > 1:
        return _of_documents(family, whole)
    if LANGUAGE in whole.modules:
        return _of_text(whole)
    return _of_clips(whole) if AUDIO in whole.modules else _of_pictures(family, whole)


def _of_text(whole: CompositeModel) -> tuple[Theirs, Ours]:
    batch = text_batch(whole.modules[LANGUAGE].model.section, [ROWS])

    def theirs(model: Any) -> Said:
        logits = model.lm_head(hidden_rows(model, batch))
        loss = F.cross_entropy(logits, batch.labels, ignore_index=NO_LABEL, reduction="sum")
        return Said(logits, loss / batch.loss_denominator)

    def ours(whole: CompositeModel, chains: Chains) -> Said:
        own = text_batch(whole.modules[LANGUAGE].model.section, [ROWS])
        return Said(logits_of(chains[LANGUAGE], own), chains[LANGUAGE](None, own)[MAIN])

    return theirs, ours


def _of_documents(family: str, whole: CompositeModel) -> tuple[Theirs, Ours]:
    samples, section = samples_of(family, whole), tower_of(whole).section

    def theirs(model: Any) -> Said:
        logits = judged_logits(family, model, samples, section)
        return Said(torch.cat(logits), mean_loss(logits, [sample.labels for sample in samples]))

    def ours(whole: CompositeModel, chains: Chains) -> Said:
        batch = joined_text(whole, chains, samples)
        return Said(logits_of(chains[LANGUAGE], batch), chains[LANGUAGE](None, batch)[MAIN])

    return theirs, ours


_TOWER_CASES: Mapping[str, str] = {
    "clip": "clip", "siglip": "siglip", "siglip2": "siglip2", "clip_vision_model": "clip",
    "siglip_vision_model": "siglip", "siglip2_vision_model": "siglip2", "radio": "radio", "convnextv2": "convnextv2",
    "qwen2_5_vl_vision": "qwen2_5_vl", "qwen3_vl_vision": "qwen3_vl",
}  # fmt: skip


def _of_pictures(family: str, whole: CompositeModel) -> tuple[Theirs, Ours]:
    tower, case = tower_of(whole), _TOWER_CASES[family]
    images = pictures(GRIDS[case], tower.section.patch)

    def theirs(model: Any) -> Said:
        if family.startswith("qwen"):
            grids = torch.tensor([(1, *grid_of_picture(image, tower.section)) for image in images])
            said = model(picture_rows(images, tower.section), grid_thw=grids)
            return said_of(qwen_outputs(said, tower.ends.taps))
        return said_of(RUN[case](getattr(model, "vision_model", model), images, tower))

    def ours(whole: CompositeModel, chains: Chains) -> Said:
        return said_of(our_outputs(chains[VISION], images, tower_of(whole)))

    return theirs, ours


def said_of(outputs: Mapping[str, Tensor]) -> Said:
    """The rows that leave an encoder by its ports, and a weighted sum of them."""
    return Said(torch.cat([rows.flatten() for _port, rows in sorted(outputs.items())]), weighted_sum(outputs))


def _of_clips(whole: CompositeModel) -> tuple[Theirs, Ours]:
    first = whole.modules[AUDIO].model.section
    if isinstance(first, ConformerConfig):
        clips = clips_of(first)
    else:
        shape = (2, first.mels, first.positions * first.stride)
        clips = list(torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))

    def theirs(model: Any) -> Said:
        if isinstance(first, ConformerConfig):
            encoder = getattr(model, "encoder", model)
            encoder = model if isinstance(encoder, torch.nn.ModuleList) else encoder
            rows = torch.cat([encoder(clip[None]).last_hidden_state[0] for clip in clips])
        else:
            rows = model.get_encoder()(torch.stack(clips)).last_hidden_state.flatten(0, 1)
        return said_of({MAIN: rows})

    def ours(whole: CompositeModel, chains: Chains) -> Said:
        section = whole.modules[AUDIO].model.section
        batch: AudioBatch = (
            packed(section, clips) if isinstance(section, ConformerConfig) else windows(torch.stack(clips), section)
        )
        return said_of({MAIN: chains[AUDIO](None, batch)[MAIN]})

    return theirs, ours
