# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Named layouts: what each overrides of tiny.yaml or hybrid.yaml, and how many ranks it needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.command import as_verified

TINY = Path(__file__).with_name("tiny.yaml")
HYBRID = Path(__file__).with_name("hybrid.yaml")
TOWERS = HYBRID.with_name("towers.yaml")


def pair(world: int, vision: Mapping[str, Any], language: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Overrides for both layouts, and whatever keys of the config `more` names with `__` for dots."""
    overrides: dict[str, Any] = {
        "world.size": world,
        "world.partial_overlap": True,
        "modules.vision.layout": dict(vision),
        "modules.language.layout": dict(language),
    }
    if language.get("pp", 1) > 1:
        overrides["modules.language.model.tied"] = False
    return overrides | {key.replace("__", "."): value for key, value in more.items()}


def ranks(first: int, count: int) -> list[int]:
    """Consecutive ranks."""
    return list(range(first, first + count))


def documents(**keys: Any) -> list[dict[str, Any]]:
    """A synthetic training set with some keys changed."""
    base = load_config(TINY).resolved()["data"]["train"][0]["synthetic"]
    return [{"synthetic": base | keys}]


UNIFORM = {
    "text_tokens": {"kind": "constant", "value": 8},
    "images_per_document": {"kind": "constant", "value": 1},
    "image_height": {"kind": "constant", "value": 16},
    "image_width": {"kind": "constant", "value": 16},
}

LAYOUTS: dict[str, dict[str, Any]] = {
    "one_rank": pair(1, {"ranks": [0]}, {"ranks": [0]}),
    "disjoint_1_to_1": pair(2, {"ranks": [0]}, {"ranks": [1]}),
    "dp2_to_tp2": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}),
    "dp3_to_dp2": pair(5, {"ranks": ranks(0, 3)}, {"ranks": ranks(3, 2)}, schedule__microbatches=3),
    "dp2_to_dp3": pair(5, {"ranks": ranks(0, 2)}, {"ranks": ranks(2, 3)}, schedule__microbatches=1),
    "dp1_to_dp4": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4)}),
    "dp4_to_dp1": pair(5, {"ranks": ranks(0, 4)}, {"ranks": [4]}),
    "dp4_to_tp2_pp2": pair(8, {"ranks": ranks(0, 4)}, {"ranks": ranks(4, 4), "tp": 2, "pp": 2}, schedule__microbatches=4),
    "tp2_pp2_to_dp4": pair(8, {"ranks": ranks(0, 4), "tp": 2, "pp": 2}, {"ranks": ranks(4, 4)}, schedule__microbatches=4),
    "tp2_to_pp3": pair(5, {"ranks": ranks(0, 2), "tp": 2}, {"ranks": ranks(2, 3), "pp": 3}, schedule__microbatches=5),
    "pp3_to_tp3": pair(6, {"ranks": ranks(0, 3), "pp": 3}, {"ranks": ranks(3, 3), "tp": 3}, schedule__microbatches=3),
    "one_to_pp7": pair(8, {"ranks": [0]}, {"ranks": ranks(1, 7), "pp": 7}, schedule__microbatches=8,
                       training__global_batch_samples=9),
    "dp3_to_tp2_dp2": pair(7, {"ranks": ranks(0, 3)}, {"ranks": ranks(3, 4), "tp": 2}, schedule__microbatches=7,
                           training__global_batch_samples=15),
    "language_before_vision": pair(4, {"ranks": [2, 3]}, {"ranks": [0, 1], "tp": 2}),
    "interleaved_ranks": pair(6, {"ranks": [0, 2, 5]}, {"ranks": [1, 3, 4]}, schedule__microbatches=2),
    "interleaved_tp": pair(4, {"ranks": [0, 2], "tp": 2}, {"ranks": [1, 3], "tp": 2, "sequence_parallel": False}),
    "homogeneous_dp4": pair(4, {"ranks": ranks(0, 4)}, {"ranks": ranks(0, 4)}),
    "homogeneous_tp2_dp2": pair(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4), "tp": 2}),
    "homogeneous_pp2_tp2_dp2": pair(8, {"ranks": ranks(0, 8), "pp": 2, "tp": 2}, {"ranks": ranks(0, 8), "pp": 2, "tp": 2}),
    "colocated_dp4_to_tp2_dp2": pair(4, {"ranks": ranks(0, 4)}, {"ranks": ranks(0, 4), "tp": 2}),
    "colocated_dp4_to_tp4": pair(4, {"ranks": ranks(0, 4)}, {"ranks": ranks(0, 4), "tp": 4}),
    "colocated_tp4_to_dp4": pair(4, {"ranks": ranks(0, 4), "tp": 4}, {"ranks": ranks(0, 4)}, schedule__microbatches=1),
    "colocated_dp4_to_pp4": pair(4, {"ranks": ranks(0, 4)}, {"ranks": ranks(0, 4), "pp": 4}, schedule__microbatches=4),
    "colocated_pp4_to_dp4": pair(4, {"ranks": ranks(0, 4), "pp": 4}, {"ranks": ranks(0, 4)}, schedule__microbatches=3),
    "colocated_tp3": pair(3, {"ranks": ranks(0, 3), "tp": 3}, {"ranks": ranks(0, 3), "tp": 3}),
    "colocated_with_idle_rank": pair(4, {"ranks": [1, 2, 3]}, {"ranks": [1, 2, 3], "pp": 3}, world__idle=[0]),
    "mixed_2_of_4": pair(4, {"ranks": [0, 1, 2]}, {"ranks": [1, 2, 3], "tp": 3}),
    "mixed_encoder_inside": pair(4, {"ranks": [1, 2]}, {"ranks": ranks(0, 4), "pp": 2, "tp": 2}, schedule__microbatches=4),
    "mixed_language_inside": pair(6, {"ranks": ranks(0, 6), "dp_replicate": 2}, {"ranks": [2, 3], "tp": 2}),
    "replicate_x_shard": pair(8, {"ranks": ranks(0, 4), "dp_replicate": 2}, {"ranks": ranks(4, 4), "dp_replicate": 2}),
    "replicate_only": pair(4, {"ranks": [0, 1], "dp_replicate": 2}, {"ranks": [2, 3], "dp_replicate": 2}),
    "resharded": pair(4, {"ranks": [0, 1], "reshard": True}, {"ranks": [2, 3], "reshard": True}),
    "no_sequence_parallel": pair(4, {"ranks": [0, 1], "tp": 2, "sequence_parallel": False},
                                 {"ranks": [2, 3], "tp": 2, "sequence_parallel": False}),
    "no_sequence_parallel_pp": pair(4, {"ranks": [0]}, {"ranks": [0, 1, 2, 3], "tp": 2, "pp": 2, "sequence_parallel": False}),
    "given_splits": pair(5, {"ranks": [0, 1], "pp": 2, "split": [1, 3]},
                         {"ranks": [2, 3, 4], "pp": 3, "split": [4, 1, 2]}, schedule__microbatches=4),
    "gpipe_pp3": pair(4, {"ranks": [0]}, {"ranks": [1, 2, 3], "pp": 3}, schedule__kind="gpipe", schedule__microbatches=6),
    "gpipe_colocated": pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "tp": 2}, schedule__kind="gpipe"),
    "no_image_at_all": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, data__train=documents(without_images=1.0)),
    "most_without_images": pair(4, {"ranks": [0, 1], "reshard": True}, {"ranks": [2, 3]},
                                data__train=documents(without_images=0.8), schedule__microbatches=4),
    "no_loss_token_at_all": pair(3, {"ranks": [0]}, {"ranks": [1, 2]}, data__train=documents(without_loss=1.0)),
    "some_without_loss": pair(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, data__train=documents(without_loss=0.7),
                              schedule__microbatches=4),
    "empty_encoder_shares": pair(6, {"ranks": ranks(0, 4)}, {"ranks": [4, 5]}, schedule__microbatches=4,
                                 training__global_batch_samples=4, data__train=documents(without_images=0.5)),
    "packed": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, data__packing=True, training__global_batch_samples=11),
    "packed_dp3": pair(4, {"ranks": [0]}, {"ranks": [1, 2, 3]}, data__packing=True, training__global_batch_samples=12),
    "dealt_by_sample": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3]}, data__balance="sample"),
    "dealt_in_order": pair(4, {"ranks": [0, 1, 2]}, {"ranks": [3]}, data__balance="none"),
    "more_cells_than_packs": pair(4, {"ranks": [0]}, {"ranks": [1, 2, 3]}, schedule__microbatches=4,
                                  training__global_batch_samples=5),
    "cp2_encoder": pair(4, {"ranks": [0, 1], "cp": 2}, {"ranks": [2, 3], "tp": 2}),
    "cp2_encoder_of_whole_images": pair(6, {"ranks": ranks(0, 4), "cp": 2, "tp": 2}, {"ranks": [4, 5]}, data__train=documents(**UNIFORM)),
    "cp4_encoder_of_one_image": pair(5, {"ranks": ranks(0, 4), "cp": 4}, {"ranks": [4]}, data__train=documents(**UNIFORM),
                                     schedule__microbatches=2, training__global_batch_samples=2),
    "cp2_language": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2}),
    "cp2_both_colocated": pair(8, {"ranks": ranks(0, 8), "cp": 2, "dp_replicate": 2}, {"ranks": ranks(0, 8), "cp": 2, "tp": 2}, schedule__microbatches=3),
    "cp4_with_2_kv_heads": pair(5, {"ranks": [0]}, {"ranks": [1, 2, 3, 4], "cp": 4}, modules__language__model__kv_heads=2),
    "cp2_tp2_without_sp": pair(4, {"ranks": ranks(0, 4), "cp": 2, "tp": 2, "sequence_parallel": False}, {"ranks": ranks(0, 4), "cp": 2, "tp": 2, "sequence_parallel": False}),
    "tied_over_pp2": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, modules__language__model__tied=True),
    "tied_over_pp3_tp2": pair(8, {"ranks": [0, 1]}, {"ranks": ranks(2, 6), "pp": 3, "tp": 2}, modules__language__model__tied=True, schedule__microbatches=3),
    "dp2_to_tp2_pp3": pair(8, {"ranks": ranks(0, 2)}, {"ranks": ranks(2, 6), "tp": 2, "pp": 3}, schedule__microbatches=4),
    "colocated_tp2_dp4_to_tp4_dp2_uniform": pair(8, {"ranks": ranks(0, 8), "tp": 2}, {"ranks": ranks(0, 8), "tp": 4}, data__train=documents(**UNIFORM)),
    "colocated_tp2_dp4_to_tp4_dp2_ragged": pair(8, {"ranks": ranks(0, 8), "tp": 2}, {"ranks": ranks(0, 8), "tp": 4}),
    "colocated_tp4_dp2_to_tp2_dp4_uniform": pair(8, {"ranks": ranks(0, 8), "tp": 4}, {"ranks": ranks(0, 8), "tp": 2}, data__train=documents(**UNIFORM)),
    "colocated_tp4_dp2_to_tp2_dp4_ragged": pair(8, {"ranks": ranks(0, 8), "tp": 4}, {"ranks": ranks(0, 8), "tp": 2}),
    "three_axes_of_positions": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2}, modules__language__model__rope_sections=[1, 1, 1], modules__language__model__qkv_bias=True),
    "untied": pair(2, {"ranks": [0]}, {"ranks": [1]}, modules__language__model__tied=False),
    "no_merge_linear_projector": pair(4, {"ranks": [0, 1], "tp": 2}, {"ranks": [2, 3], "tp": 2},
                                      modules__vision__model__merge=1,
                                      modules__vision__model__projector={"kind": "linear"}),
    "copied_kv_heads_over_tp4_cp2": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "tp": 4, "cp": 2}, modules__language__model__heads=24, modules__language__model__kv_heads=6,
                                         modules__language__model__qkv_bias=True),
    "copied_kv_heads_over_tp2_cp2": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "tp": 2, "cp": 2}, modules__language__model__kv_heads=1, modules__language__model__qkv_bias=True),
    "dynamic_positions_over_cp2": pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "cp": 2}, data__packing=True,
                                       modules__language__model__rope_scaling={"kind": "dynamic", "factor": 4.0, "original_positions": 6}),
    "copied_kv_heads_over_tp8": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "tp": 8}, modules__language__model__heads=16, modules__language__model__kv_heads=2),
    "copied_kv_heads_over_tp6": pair(6, {"ranks": [0]}, {"ranks": ranks(0, 6), "tp": 6}, modules__language__model__kv_heads=4),
    "copied_kv_heads_over_tp4_without_sp": pair(8, {"ranks": [0]}, {"ranks": ranks(0, 8), "tp": 4, "sequence_parallel": False}, modules__language__model__kv_heads=2,
                                                modules__language__model__qkv_bias=True),
    "grouped_queries": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, modules__language__model__kv_heads=4,
                            modules__language__model__rope_theta=None, modules__language__model__activation="relu2"),
}  # fmt: skip

EP2, EP4, EP8, EP2_ETP2 = {"ep": 2}, {"ep": 4}, {"ep": 8}, {"ep": 2, "etp": 2}

HYBRIDS: dict[str, dict[str, Any]] = {
    "one_rank": pair(1, {"ranks": [0]}, {"ranks": [0]}),
    "tp2_dp2_to_tp2_dp2_ep4": pair(8, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(4, 4), "tp": 2, "expert": EP4}),
    "colocated_tp2_dp2_to_tp2_dp2_ep4": pair(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4), "tp": 2, "expert": EP4}),
    "ep2_etp2": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "expert": EP2_ETP2}),
    "ep2_etp2_over_tp2_edp2": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "tp": 2, "expert": EP2_ETP2}),
    "etp4_over_tp4": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "tp": 4, "expert": {"etp": 4}}),
    "ep8_over_dp2_cp2_tp2": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "cp": 2, "tp": 2, "expert": EP8}),
    "ep8_over_dp8": pair(8, {"ranks": ranks(0, 8), "tp": 2}, {"ranks": ranks(0, 8), "expert": EP8}, schedule__microbatches=1),
    "experts_on_few_shards": pair(8, {"ranks": [0]}, {"ranks": ranks(0, 8), "dp_replicate": 2, "reshard": True, "expert": EP2}),
    "cp2_encoder": pair(4, {"ranks": [0, 1], "cp": 2}, {"ranks": [2, 3], "expert": EP2}),
    "cp2_language": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2, "expert": EP2}),
    "cp2_both": pair(8, {"ranks": ranks(0, 4), "cp": 2}, {"ranks": ranks(4, 4), "cp": 2, "tp": 2, "expert": EP4}),
    "cp4_with_2_kv_heads": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "cp": 4}, modules__language__model__kv_heads=2),
    "cp8_over_4_groups": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "cp": 8, "expert": EP8}),
    "tp2_pp3": pair(8, {"ranks": [0, 1]}, {"ranks": ranks(2, 6), "tp": 2, "pp": 3, "expert": EP2}, schedule__microbatches=4),
    "one_to_pp7": pair(8, {"ranks": [0]}, {"ranks": ranks(1, 7), "pp": 7}, schedule__microbatches=8, training__global_batch_samples=9),
    "tied_over_pp2_ep2": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "pp": 2, "expert": EP2}, modules__language__model__tied=True),
    "no_sequence_parallel_ep4": pair(4, {"ranks": [0]}, {"ranks": ranks(0, 4), "tp": 2, "sequence_parallel": False, "expert": EP4}),
    "packed_ep2": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "expert": EP2}, data__packing=True, training__global_batch_samples=11),
    "padding_microbatches_ep4": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "expert": EP4}, schedule__microbatches=4, training__global_batch_samples=5),
    "softmax_without_bias_or_shared": pair(4, {"ranks": [0]}, {"ranks": ranks(0, 4), "expert": EP2}, modules__language__model__activation="swiglu",
        modules__language__model__moe={"experts": 6, "top_k": 3, "ffn": 8, "router": "softmax", "normalize": False, "balance": 0.1}),
}  # fmt: skip


def named_config(name: str) -> Config:
    """The config of a named layout of the dense pair, in float64."""
    return as_verified(override(load_config(TINY), LAYOUTS[name]), "float64")


def hybrid_config(name: str) -> Config:
    """The config of a named layout of the hybrid pair, in float64."""
    return as_verified(override(load_config(HYBRID), HYBRIDS[name]), "float64")


def language_only(layout: Mapping[str, Any], world: int, **more: Any) -> Config:
    """A config with one module."""
    data = load_config(TINY).resolved()
    del data["modules"]["vision"]
    data["edges"] = []
    data["data"]["train"][0]["synthetic"] |= {"images_per_document": {"kind": "constant", "value": 0}}
    overrides = {"world.size": world, "modules.language.layout": dict(layout)}
    overrides["modules.language.model.tied"] = layout.get("pp", 1) == 1
    return as_verified(override(load_config(data), overrides | more), "float64")


def override(config: Config, overrides: Mapping[str, Any]) -> Config:
    """A config with dotted keys replaced."""
    data = config.resolved()
    for key, value in overrides.items():
        *path, last = key.split(".")
        section = data
        for part in path:
            section = section[part]
        section[last] = value
    return load_config(data)
