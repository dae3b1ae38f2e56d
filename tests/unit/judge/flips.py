"""One key of a config.json at a time changed: transformers' answer and ours, with the same weights."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.convert.composite import CompositeModel, composite_of
from counterpoint.convert.keys import Keys
from counterpoint.convert.known import known_keys
from counterpoint.convert.without_effect import OF_ALL
from counterpoint.errors import CheckpointError
from tests.unit.judge.converted import modules_to_ours, with_tensors_found
from tests.unit.judge.hub_folders import in_python, load_hub_folder, write_hub_folder
from tests.unit.judge.hub_judge import build_wide, chains_of, lift_all, sides
from tests.unit.judge.judge import build, quiet, randomize, read_all
from tests.unit.judge.models import CONFIGS, Config
from tests.unit.judge.ropes import ROPES
from tests.unit.judge.towers import TOWERS, Named, make_judge
from tests.unit.judge.whole_configs import PARAKEET, WHISPER
from tests.unit.judge.wholes import WHOLES

EQUAL = 1e-9
Key = tuple[str, ...]
"""A key, with the sections that it lies in."""

Theirs = Callable[[Any], Tensor]
Ours = Callable[[CompositeModel, Mapping[str, Named]], Tensor]
GONE = "<removed>"
"""In the place of a value: the key is taken out."""

_ACTIVATIONS = ("gelu", "silu", "gelu_pytorch_tanh", "quick_gelu", "relu2")
_WORDS: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": _ACTIVATIONS, "hidden_activation": _ACTIVATIONS, "mlp_hidden_act": _ACTIVATIONS,
    "mamba_hidden_act": _ACTIVATIONS,
    "projector_hidden_act": _ACTIVATIONS, "activation_function": _ACTIVATIONS,
    "rope_type": ("default", "linear", "llama3", "yarn", "longrope", "mrope", "axial"),
    "type": ("default", "linear", "yarn", "mrope"),
    "vision_feature_select_strategy": ("full",), "vision_feature_layer": (-1, -3, 0, 1, 2, [-1, -2]),
    "layers_block_type": (["full_attention"], ["linear_attention", "mlp"]),
    "layer_types": (["full_attention", "sliding_attention"], ["full_attention"]),
    "time_step_min": (0.5, 0.0, -1.0), "time_step_limit": ([0.3, 0.4],), "norm_topk_prob": (True, False),
    "deepstack_visual_indexes": ([2, 0], [1, 3], [0], [0, 2, 3], [0, 9]), "fullatt_block_indexes": ([0, 2], [], [9]),
    "window_size": (4, 16, 6, 9), "downsample_ratio": (0.25, 1.0), "tie_word_embeddings": (True, False),
}  # fmt: skip
"""Values of keys for which a rule by type finds none that transformers takes."""

_ROPE: Mapping[str, tuple[Any, ...]] = {
    "rope_theta": (77.0,), "mrope_section": ([1, 1, 2], [2, 1, 1], [0, 2, 2], [6, 0, 0]),
    "mrope_interleaved": (True, False),
    "type": ("linear", "llama3", "mrope"), "factor": (2.0,), "partial_rotary_factor": (0.5, 1.0),
    "original_max_position_embeddings": (8,), "attention_factor": (2.0,), "mscale": (0.5,), "mscale_all_dim": (0.5,),
    "beta_fast": (4.0, 0), "beta_slow": (0.5,), "truncate": (False,), "short_factor": ([2.0] * 6,),
    "long_factor": ([2.0] * 6,), "low_freq_factor": (2.0,), "high_freq_factor": (3.0,),
}  # fmt: skip
_MORE: Mapping[str, tuple[Any, ...]] = {
    "rope_theta": (77.0,), "rope_scaling": ({"type": "linear", "factor": 2.0}, {"rope_type": "default"}, None),
    "partial_rotary_factor": (0.5,), "mrope_section": ([1, 1, 2],), "mrope_interleaved": (True,),
    "head_dim": (4, 6, None),
    "attention_bias": (True,), "mlp_bias": (True,), "qkv_bias": (False,), "max_position_embeddings": (30,),
    "original_max_position_embeddings": (12,), "use_sliding_window": (True,),
    "sliding_window": (3, None), "layer_types": (["sliding_attention"], ["full_attention", "sliding_attention"]),
    "num_experts": (5, 6), "num_local_experts": (5,), "decoder_sparse_step": (2,), "mlp_only_layers": ([0], [1]),
    "hybrid_override_pattern": ("M-M*-", "*-M*-"), "mamba_dt_min": (0.5,), "time_step_min": (0.5,),
    "mamba_n_groups": (1,), "mamba_chunk_size": (4,), "tie_word_embeddings": (True, False), "num_heads": (4,),
    "num_attention_heads": (1, 4), "hidden_size": (17,), "vocab_size": (24,), "layer_norm_eps": (0.1,),
    "rms_norm_eps": (0.1,), "layer_norm_epsilon": (0.1,), "norm_eps": (0.1,), "logits_scaling": (2.0,),
    "embedding_multiplier": (2.0,), "attention_multiplier": (2.0,), "residual_multiplier": (2.0,),
    "hidden_act": ("relu",),
    "quantization_config": ({"quant_method": "x"},), "in_channels": (4,), "num_channels": (4,), "a_new_key": (1,),
}  # fmt: skip
"""Keys that many configs do not write, with values for them."""


@dataclass(frozen=True)
class Case:
    """A model whose keys are flipped: its config.json in full, its weights, and how both sides answer."""

    name: str
    config: Config
    tensors: Named
    state: Named
    make: Callable[[Config], Any]
    theirs: Theirs
    ours: Ours


@dataclass(frozen=True)
class Flip:
    """A key and its value for a time."""

    key: Key
    value: Any

    def __str__(self) -> str:
        return f"{'.'.join(self.key)}={json.dumps(self.value)}"


@dataclass(frozen=True)
class Outcome:
    """What both sides made of a flip: how far each moved from what it said before, and how far apart they are.

    None is a refusal; nobody knows theirs where ours is one.
    """

    flip: Flip
    theirs_moved: float | None
    ours_moved: float | None
    apart: float | None

    @property
    def is_fault(self) -> bool:
        """Whether ours computes, without a word, something else than transformers."""
        return self.apart is not None and self.apart > EQUAL

    @property
    def end(self) -> str:
        """What became of it, in a word."""
        if self.ours_moved is None:
            return "refused"
        if self.apart is None:
            return "refused there"
        return "differs" if self.is_fault else "moved alike" if self.ours_moved > EQUAL else "same"


def flips_of(config: Config) -> list[Flip]:
    """Every key of a config and of its sections with other values, without any, and keys that it does not have."""
    return [Flip(key, value) for key, value in dict(_flips(config, ())).items() for value in value]


def _flips(config: Config, above: Key) -> Iterator[tuple[Key, list[Any]]]:
    is_rope = bool(above) and above[-1].startswith("rope_")
    for key, value in config.items():
        if key == "model_type":
            continue
        if isinstance(value, dict) and key not in ("id2label", "label2id"):
            yield from _flips(value, (*above, key))
            yield (*above, key), [GONE]
        else:
            yield (*above, key), [one for one in (*_others(key, value), GONE) if one != value]
    for key, values in (_ROPE if is_rope else _MORE).items():
        if key not in config:
            yield (*above, key), list(values)
    if not is_rope:
        kind = config.get("model_type", "")
        # Those of all models stand in most configs; the others are tried in one.
        own = known_keys().get(kind, Keys()).without_effect
        for key in sorted(own | (OF_ALL if kind == "llama" else frozenset())):
            if key not in config and not key.startswith(("_", "model_type", "auto_map", "text_config", "attn_impl")):
                yield (*above, key), [2]


def _others(key: str, value: Any) -> tuple[Any, ...]:
    if key in _WORDS:
        return _WORDS[key]
    match value:
        case bool():
            return (not value,)
        case int():
            return value + 1, 2 * value, max(1, value // 2)
        case float():
            return value * 1.5 + 0.1, 0.7
        case list() if value and all(isinstance(one, int) for one in value):
            return value[::-1], [*value, 1], value[:-1]
        case None:
            return 2, True
        case _:
            return ()


def flipped(config: Config, flip: Flip) -> Config:
    """The config with the flip."""
    found = copy.deepcopy(config)
    section = found
    for key in flip.key[:-1]:
        section = section[key]
    if flip.value == GONE:
        section.pop(flip.key[-1], None)
    else:
        section[flip.key[-1]] = flip.value
    return found


def tried(case: Case, flip: Flip, before: Tensor) -> Outcome:
    """Both sides' answers to a flip, `before` which both said the same; nobody asks theirs where ours refuses."""
    config = flipped(case.config, flip)
    try:
        ours = our_answer(case, config)
    except RuntimeError:
        # Inputs are those of the case, which neither side takes with other sizes.
        if _theirs(case, config) is not None:
            raise
        return Outcome(flip, None, None, None)
    if ours is None:
        return Outcome(flip, None, None, None)
    theirs, moved = _theirs(case, config), distance(ours, before)
    if theirs is None:
        return Outcome(flip, None, moved, None)
    return Outcome(flip, distance(theirs, before), moved, distance(ours, theirs))


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest value; answers of another shape are infinitely far."""
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _theirs(case: Case, config: Config) -> Tensor | None:
    """The judge's answer, None if it takes no such config, or the weights do not fill its model."""
    try:
        model = case.make(config)
        _untie(model, case.state)
        if model.load_state_dict(case.state, strict=False).missing_keys:
            return None
        with torch.no_grad():
            return case.theirs(model)
    except Exception:
        # Whatever its code says to a config that it does not take.
        return None


def _untie(model: Any, state: Named) -> None:
    """Give a model a head of its own where it is not the embedding, as transformers does when it loads a folder."""
    for head, words in model.all_tied_weights_keys.items():
        if head in state and words in state and not torch.equal(state[head], state[words]):
            parent, _dot, name = head.rpartition(".")
            setattr(model.get_submodule(parent), name, torch.nn.Parameter(state[head].clone()))


def our_answer(case: Case, config: Config) -> Tensor | None:
    """Our answer, None if the config is refused."""
    try:
        whole = with_tensors_found(composite_of(config), case.tensors)
        with torch.no_grad():
            return case.ours(whole, modules_to_ours(whole, case.tensors))
    except CheckpointError:
        return None


_TEXTS: Mapping[str, Config] = {
    **{name: config for name, config in CONFIGS.items() if name != "qwen2_vl_text"},
    # The base of dynamic positions is computed in the default dtype, whose cast is not lifted here.
    **{name: config for name, config in ROPES.items() if not name.startswith("dynamic") and "axes" not in name},
}
TEXTS = tuple(_TEXTS)
CASES = (*TEXTS, "clip", "siglip", "siglip2", "radio", "convnextv2", *WHOLES, "whisper", "parakeet")
"""All models whose keys are flipped."""


def make_case(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Case:
    """Write and read a model of random values; until the patch ends its casts are lifted."""
    quiet()
    make = build_text if name in _TEXTS else build_other
    raw = _TEXTS[name] if name in _TEXTS else {**TOWERS, **WHOLES, "whisper": WHISPER, "parakeet": PARAKEET}[name]
    lift_all(make(raw), patch)
    model = make(raw)
    randomize(model)
    model.save_pretrained(folder)
    config = json.loads(model.config.to_json_string(use_diff=False))
    return _case(name, config, read_all(folder)[1], dict(model.state_dict()), make)


def make_hub_case(family: str, folder: Path, patch: pytest.MonkeyPatch) -> Case:
    """The same with a random model of a family of folders, whose config.json has every key."""
    quiet()
    write_hub_folder(family, 0, "whole", folder)
    loaded = load_hub_folder(family, folder)
    lift_all(loaded, patch)
    config = json.loads(loaded.config.to_json_string(use_diff=False))

    def make(config: Config) -> Any:
        return build_wide(family, in_python(config))

    return _case(family, config, read_all(folder)[1], dict(loaded.state_dict()), make)


def _case(name: str, config: Config, tensors: Named, state: Named, make: Callable[[Config], Any]) -> Case:
    theirs, ours = sides(name, composite_of(config))
    return Case(
        name, config, tensors, state, make,
        lambda model: theirs(model).answer,
        lambda whole, weights: ours(whole, chains_of(whole, weights)).answer,
    )  # fmt: skip


def build_text(config: Config) -> Any:
    return build(in_python(config), None)


def build_other(config: Config) -> Any:
    return make_judge(in_python(config)).double().eval()
