"""The command starts a module from a checkpoint of Megatron: it says what it loads, or refuses before ranks start."""

from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.convert.megatron import megatron_radio
from tests.unit.cli.conftest import Command, write
from tests.unit.train.warm.megatron_folders import as_megatron, random_encoder, tower, write_torch_dist

KEY = "modules.vision.init_from"


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """A config whose vision module has the sizes of the encoder, and a projector of its own."""
    section = tower().section.model_dump(exclude={"image"})
    section |= {"image": {"size": 28, "max_patches": 16}, "projector": {"kind": "mlp", "hidden": 12}}
    settings["modules"]["vision"]["model"] = section
    return write(settings, tmp_path / "config.yaml")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An encoder of random values, as the newest iteration of a training."""
    write_torch_dist(tmp_path / "saved", as_megatron(random_encoder(torch.bfloat16)))
    return tmp_path / "saved"


def test_what_fits_is_said_and_gets_as_far_as_ranks(
    counterpoint: Command, config: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {saved}, fresh: [projector.*]}}")
    said = capsys.readouterr().out
    assert f"vision: 39 of 39 tensors from {saved / 'iter_0000042'}, below vision_model." in said
    assert "does not say heads 4, activation gelu_tanh, norm_eps 1e-06" in said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["modules.vision.model.prefix=8"], "modules.vision.model.prefix: got 8, expected 10, as "),
        (
            ["modules.vision.init_from.prefix=model.vision_model"],
            "there is vision_model.; correct it",
        ),
        (["modules.vision.init_from.skip=[mask_token]"], 'skip.0: got "mask_token", expected a pattern that fits'),
    ],
)
def test_what_does_not_fit_is_refused(
    counterpoint: Command, config: Path, saved: Path, tmp_path: Path, overrides: list[str], words: str
) -> None:
    ended = counterpoint("train", config, f"{KEY}={{path: {saved}, fresh: [projector.*]}}", *overrides)
    assert (ended.code, ended.err.startswith("error: ")) == (2, True)
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_published_size_has_387_tensors() -> None:
    """C-RADIO ViT-H, by its shapes."""
    hidden, ffn, layers = 1280, 5120, 32
    shapes: dict[str, tuple[int, ...]] = {
        "class_token": (10, hidden), "position_embeddings": (1, 128**2, hidden), "embedder.weight": (hidden, 3 * 16**2),
    }  # fmt: skip
    linears = {
        "self_attention.linear_qkv": (3 * hidden, hidden), "self_attention.linear_proj": (hidden, hidden),
        "mlp.linear_fc1": (ffn, hidden), "mlp.linear_fc2": (hidden, ffn),
    }  # fmt: skip
    for layer in range(layers):
        for name, shape in linears.items():
            at = f"decoder.layers.{layer}.{name}."
            shapes |= {f"{at}weight": shape, f"{at}bias": shape[:1]}
            if name.endswith(("qkv", "fc1")):
                shapes |= {f"{at}layer_norm_weight": (hidden,), f"{at}layer_norm_bias": (hidden,)}
    assert len(shapes) == 387
    ours = tower(layers=32, hidden=hidden, heads=16, ffn=ffn, patch=16, positions=128).section
    stored = megatron_radio("it", shapes, ours).modules["vision"]
    assert {name for link in stored.links for name in link.theirs} == shapes.keys()
    found = stored.model.section
    assert (found.layers, found.hidden, found.ffn, found.patch, found.positions, found.prefix) == (
        32,
        1280,
        5120,
        16,
        128,
        10,
    )
