"""transformers' own ConvNeXt V2 with its head, as its code begins and writes it: rows and every gradient are equal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.convert.composite import VISION, composite_of
from counterpoint.errors import CheckpointError
from counterpoint.models.chain import MAIN
from tests.unit.judge.converted import gradients_to_ours, modules_to_ours
from tests.unit.judge.judge import REASON, quiet, with_gradients
from tests.unit.judge.models import gradients_of
from tests.unit.judge.test_towers import FLOOR, LIFTED, distance
from tests.unit.judge.towers import CONVNEXT, FOURS, Named, our_outputs, our_tower, pictures, stored, tower_of

transformers = pytest.importorskip("transformers", reason=REASON)


def rows_of(model: Any, images: list[Tensor]) -> Tensor:
    """What leaves their last stage, picture by picture."""
    return torch.cat([model.convnextv2(image[None]).last_hidden_state[0].flatten(1).T for image in images])


def weighted(outputs: Tensor) -> Tensor:
    """A sum of all values, each with a weight of its own."""
    return (outputs * torch.arange(outputs.numel(), dtype=torch.float64).sin().view_as(outputs)).sum()


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_a_classifier_as_its_code_begins(activation: str, tmp_path: Path) -> None:
    """Responses have a weight of zero there, so two steps are compared: in the second they count."""
    quiet()
    torch.manual_seed(0)
    config = {**CONVNEXT, "hidden_act": activation, "num_labels": 3, "drop_path_rate": 0.5}
    described = transformers.ConvNextV2Config(**{k: v for k, v in config.items() if k != "model_type"})
    model = transformers.ConvNextV2ForImageClassification(described).double().eval()
    images = pictures(FOURS, patch=2)
    for step in range(2):
        written, tensors = stored(model, tmp_path / f"weights{step}")
        whole = composite_of(written)
        expected = rows_of(model, images)
        model.zero_grad()
        weighted(expected).backward()
        behind = stepped(model)
        found, gradients = ours(whole, modules_to_ours(whole, tensors)[VISION], images)
        assert distance(found, expected.detach()) <= LIFTED
        _written, theirs = stored(with_gradients(model), tmp_path / f"gradients{step}")
        wanted = gradients_to_ours(whole, theirs)[VISION]
        floor = FLOOR * max(float(gradient.abs().max()) for gradient in wanted.values())
        assert {n: g for n, g in wanted.items() if distance(gradients[n], g, floor) > LIFTED} == {}
        model.load_state_dict(behind)


def stepped(model: Any) -> Named:
    """Its tensors after a step against the gradients."""
    found = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return found | {name: found[name] - 0.01 * gradient for name, gradient in trained.items()}


def ours(whole: Any, weights: Named, images: list[Tensor]) -> tuple[Tensor, Named]:
    """Our rows of all pictures in one batch, and every gradient but the projector's."""
    tower = tower_of(whole)
    chain = our_tower(tower, weights)
    outputs = our_outputs(chain, images, tower)[MAIN]
    weighted(outputs).backward()
    return outputs.detach(), gradients_of(chain)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depths": [1, 2]}, r"says depths: \[1, 2\], but only 3 numbers above 0, one for each of num_stages,"),
        ({"hidden_sizes": [8, 12, 0]}, r"says hidden_sizes: .*only 3 numbers above 0"),
        ({"patch_size": [2, 2]}, r"says patch_size: \[2, 2\], but only a whole number"),
        ({"hidden_act": "relu"}, r"says hidden_act: 'relu'"),
        ({"layer_scale_init_value": 1e-6}, r"says layer_scale_init_value: .* of which nothing is known"),
    ],
)
def test_what_is_another_model_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        composite_of({**CONVNEXT, **change})


def test_a_file_of_defaults_is_the_tiny_one() -> None:
    section = composite_of({"model_type": "convnextv2"}).modules[VISION].model.section
    assert (section.depths, section.widths, section.side) == ((3, 3, 9, 3), (96, 192, 384, 768), 8)
