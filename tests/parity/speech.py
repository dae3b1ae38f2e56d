# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Named layouts of speech.yaml: what each overrides, and how many ranks it needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.command import as_verified
from tests.parity.layouts import override, ranks

SPEECH = Path(__file__).with_name("speech.yaml")


def trio(world: int, audio: Mapping[str, Any], language: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Overrides for the layouts of the encoder of clips and the decoder; the one of images shares the clips' ranks."""
    overrides: dict[str, Any] = {
        "world.size": world,
        "world.partial_overlap": True,
        "modules.vision.layout": {"ranks": audio["ranks"]},
        "modules.audio.layout": dict(audio),
        "modules.language.layout": dict(language),
    }
    if language.get("pp", 1) > 1:
        overrides["modules.language.model.tied"] = False
    return overrides | {key.replace("__", "."): value for key, value in more.items()}


def documents(**keys: Any) -> list[dict[str, Any]]:
    """A synthetic training set with some keys changed."""
    base = load_config(SPEECH).resolved()["data"]["train"][0]["synthetic"]
    return [{"synthetic": base | keys}]


ONE_CLIP = {
    "audio_per_document": {"kind": "constant", "value": 1},
    "audio_milliseconds": {"kind": "constant", "value": 80},
}

SPEECHES: dict[str, dict[str, Any]] = {
    "one_rank": trio(1, {"ranks": [0]}, {"ranks": [0]}),
    "dp2_to_tp2": trio(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}),
    "tp2": trio(3, {"ranks": [0, 1], "tp": 2}, {"ranks": [2]}),
    "tp2_without_sp": trio(3, {"ranks": [0, 1], "tp": 2, "sequence_parallel": False}, {"ranks": [2]}),
    "cp2": trio(3, {"ranks": [0, 1], "cp": 2}, {"ranks": [2]}),
    "cp2_of_whole_clips": trio(4, {"ranks": [0, 1], "cp": 2}, {"ranks": [2, 3]}, data__train=documents(**ONE_CLIP)),
    "cp4_of_one_clip": trio(5, {"ranks": ranks(0, 4), "cp": 4}, {"ranks": [4]}, data__train=documents(**ONE_CLIP),
                            schedule__microbatches=2, training__global_batch_samples=2),
    "pp2": trio(3, {"ranks": [0, 1], "pp": 2}, {"ranks": [2]}),
    "pp2_zero_bubble": trio(4, {"ranks": [0, 1], "pp": 2}, {"ranks": [2, 3], "pp": 2}, schedule__kind="zero_bubble", schedule__microbatches=4),
    "colocated_tp2_cp2_recomputed": trio(4, {"ranks": ranks(0, 4), "tp": 2, "cp": 2}, {"ranks": ranks(0, 4), "tp": 2}, modules__audio__recompute="full"),
    "every_row_for_itself": trio(3, {"ranks": [0, 1], "tp": 2}, {"ranks": [2]}, modules__audio__model__stack=1),
    "stacks_of_3_linear": trio(4, {"ranks": [0, 1]}, {"ranks": [2, 3]}, modules__audio__model__stack=3, modules__audio__model__projector={"kind": "linear"}),
    "a_second_each": trio(3, {"ranks": [0, 1], "cp": 2}, {"ranks": [2]}, modules__audio__model__positions=50, modules__audio__model__audio={"seconds": 1}),
    "no_clip_at_all": trio(3, {"ranks": [0, 1]}, {"ranks": [2]}, data__train=documents(without_audio=1.0)),
    "most_without_clips": trio(5, {"ranks": ranks(0, 3), "reshard": True}, {"ranks": [3, 4]}, data__train=documents(without_audio=0.8), schedule__microbatches=4),
    "packed_three_axes": trio(3, {"ranks": [0]}, {"ranks": [1, 2], "cp": 2}, data__packing=True, modules__language__model__rope_sections=[1, 1, 1]),
    "frozen_but_for_its_projector": trio(3, {"ranks": [0, 1], "tp": 2}, {"ranks": [2]}, modules__audio__train=["projector.*", "taps.*"]),
}  # fmt: skip


def speech_config(name: str) -> Config:
    """The config of a named layout of images and clips, in float64."""
    return as_verified(override(load_config(SPEECH), SPEECHES[name]), "float64")
