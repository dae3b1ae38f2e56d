"""Random cases for `verify --random`: any layout, placement, schedule and data that the config's models allow.

Candidate k is a pure function of (config, seed, k); `choose` selects among them so that every feature of any candidate
is in at least 5 % of the cases, for any seed.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

from counterpoint.config.graph import modalities_of
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import CounterpointError
from counterpoint.families import family_of
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.verify.draw_attention import draw_attention
from counterpoint.verify.draw_data import draw_data
from counterpoint.verify.draw_graph import draw_graph, draw_training, reached_by_gradients
from counterpoint.verify.draw_layouts import draw_layouts
from counterpoint.verify.draw_letters import draw_letters
from counterpoint.verify.draw_losses import draw_losses
from counterpoint.verify.draw_optimizers import draw_optimizers
from counterpoint.verify.features import features_of

SHARE = 0.05
"""Every feature is in at least this share of the cases."""

_CANDIDATES_PER_CASE = 10
_FEWEST_CANDIDATES = 400


@dataclass(frozen=True, slots=True)
class Case:
    """One drawn case; `refusal` says why it cannot run, which is a defect of the drawing or of counterpoint."""

    id: int
    config: dict[str, Any]
    features: frozenset[str]
    refusal: str | None = None


def choose(base: Config, count: int, seed: int, world_size: int) -> list[Case]:
    """`count` cases; every feature of any candidate is in at least 5 % of them."""
    total = max(_FEWEST_CANDIDATES, _CANDIDATES_PER_CASE * count)
    candidates = [candidate(base, seed, k, world_size) for k in range(total)]
    wanted = math.ceil(SHARE * count)
    existing = sorted({feature for case in candidates for feature in case.features})
    chosen = list(islice(candidates, count))
    counts = Counter(feature for case in chosen for feature in case.features)
    spare = iter(candidates[count:])
    for case in spare:
        lacking = {feature for feature in existing if counts[feature] < wanted}
        if not lacking:
            break
        if not case.features & lacking:
            continue
        victim = _replaceable(chosen, counts, wanted)
        if victim is None:
            break
        counts.subtract(chosen[victim].features)
        counts.update(case.features)
        chosen[victim] = case
    return sorted(chosen, key=lambda case: case.id)


def _replaceable(chosen: list[Case], counts: Counter[str], wanted: int) -> int | None:
    """The chosen case with the fewest features among those whose features are all in more cases than needed."""
    free = [i for i, case in enumerate(chosen) if all(counts[feature] > wanted for feature in case.features)]
    return min(free, key=lambda i: (len(chosen[i].features), i), default=None)


def candidate(base: Config, seed: int, k: int, world_size: int) -> Case:
    """Candidate number `k`; its config loads, or its `refusal` says why not."""
    generator = random.Random(f"{seed}/{k}")
    letters, attention, filling = (random.Random(f"{seed}/{k}/{what}") for what in ("letters", "attention", "filling"))
    data = _draw(base, generator, letters, attention, filling, world_size)
    reached = reached_by_gradients({name: one["train"] for name, one in data["modules"].items()}, data["edges"])
    draw_losses(base, data["modules"], reached, random.Random(f"{seed}/{k}/losses"))
    try:
        for name, optimizer in draw_optimizers(load_config(data), random.Random(f"{seed}/{k}/optimizers")).items():
            data["modules"][name]["optimizer"] = optimizer
        return Case(k, data, features_of(load_config(data)))
    except CounterpointError as error:
        return Case(k, data, frozenset(), refusal=str(error))


def _draw(
    base: Config,
    generator: random.Random,
    letters: random.Random,
    attention: random.Random,
    filling: random.Random,
    world_size: int,
) -> dict[str, Any]:
    data = base.resolved()
    language = next(name for name, module in base.modules.items() if family_of(module.model).reads_documents)
    names, data["edges"] = draw_graph(base, generator, language)
    layouts = draw_layouts(base, generator, world_size, names)
    training = draw_training(base, generator, names, data["edges"])
    used = sorted({rank for layout in layouts.values() for rank in layout["ranks"]})
    size = min(world_size, used[-1] + 1 + generator.choice([0, 0, 0, 1]))
    data["world"] = {"size": size, "idle": [r for r in range(size) if r not in used], "partial_overlap": True}
    tapped = {edge["source"] for edge in data["edges"] if edge["depths"]}
    for name in set(names) - tapped:
        model = data["modules"][name]["model"]
        if model.get("tap_norm", "none") != "none":
            model["tap_norm"] = "none"
            if model["projector"]["norm"] == "none":
                del model["projector"]["norm_eps"]
    data["modules"] = {name: data["modules"][name] | training[name] | {"layout": layouts[name]} for name in names}
    for module in data["modules"].values():
        # The config's groups may be of parameters that are not trained here; others are drawn.
        module["optimizer"]["groups"] = []
        # Models are drawn as well, so values that fit the config's own may not fit theirs.
        module["init_from"] = None
        # Costs are listed by stage, and other layouts have other stages.
        module["stage_costs"] = []
    words = base.modules[language].model
    variant = _draw_variant(words, layouts[language], generator)
    if any(base.modules[name].model.queries for name in names):
        variant["rope_sections"] = None
    variant |= draw_attention(words, variant, attention)
    data["modules"][language] |= draw_letters(data["modules"][language], variant, letters)
    microbatches = generator.choice([1, 2, 2, 3, 4, 5, 8])
    data["schedule"] |= {"microbatches": microbatches} | _draw_schedule(generator, data, language, microbatches)
    _fill(data["schedule"], filling)
    data["training"] |= {
        "global_batch_samples": microbatches + generator.randrange(0, 7),
        "clip_norm": generator.choice([0.01, 0.05, 1.0]),
        "steps": 10,
    }
    taken = {name: modality for name, modality in modalities_of(base).items() if name in names}
    data["data"] = draw_data(generator, taken)
    for name, modality in taken.items():
        if modality.section is not None:
            data["modules"][name]["model"][modality.section.key] |= modality.section.small
    data["run"]["seed"] = generator.randrange(1000)
    return data


_SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero_bubble", "filled", "forward")
"""Schedules that a drawn one replaces; a registered one stays."""


def _draw_schedule(generator: random.Random, data: dict[str, Any], language: str, microbatches: int) -> dict[str, Any]:
    """The order of a step's work, and when encoders run."""
    modules = data["modules"]
    kinds = ["gpipe", "1f1b", "1f1b", "zero_bubble", "zero_bubble"]
    if any(module["layout"]["chunks"] > 1 for module in modules.values()):
        kinds += ["interleaved"] * 3
    schedule: dict[str, Any] = {"kind": generator.choice(kinds)}
    if data["schedule"]["kind"] not in _SCHEDULES:
        # A registered schedule is verified in all layouts.
        schedule["kind"] = data["schedule"]["kind"]
    if len(modules) == 1:
        return schedule
    schedule["encoder_group"] = generator.choice([n for n in (1, 1, 2, 3) if n <= microbatches])
    waiting = reached_by_gradients({name: module["train"] for name, module in modules.items()}, data["edges"])
    if waiting | {language} < modules.keys():
        schedule["run_ahead"] = generator.choice([0, 1])
        if schedule["run_ahead"] and waiting <= {language}:
            return schedule
    encoder = schedule["encoder"] = generator.choice(["just_in_time", "just_in_time", "first", "fill"])
    if encoder != "first" and SCHEDULES[schedule["kind"]].has_bounds:
        schedule["buffer"] = generator.choice([None, None, 1, 2])
    return schedule


def _fill(schedule: dict[str, Any], generator: random.Random) -> None:
    """Let some schedules of 1F1B be `filled` instead, which decides itself when encoders run."""
    if schedule["kind"] == "1f1b" and generator.random() < _FILLED:
        schedule["kind"] = "filled"
        schedule["encoder"] = "just_in_time"


_FILLED = 0.4
"""The share of `filled` among the schedules that are drawn as 1F1B."""


def _draw_variant(model: Any, layout: dict[str, Any], generator: random.Random) -> dict[str, Any]:
    """Options of a decoder that change what ranks exchange: tied embeddings, multi-token prediction, positions, groups
    of heads, biases."""
    groups = [n for n in range(1, model.num_kv_heads + 1) if model.heads % n == 0]
    # A layout with both copies of the embedding on one rank is refused.
    may_copy = layout["pp"] > 1 or layout["chunks"] == 1
    variant: dict[str, Any] = {
        "tied": generator.choice([True, False]) and may_copy,
        "vocab": _PLAIN_VOCABULARY if model.vocab == "tokenizer" else model.vocab,
        "qkv_bias": generator.choice([True, False]),
        "kv_heads": generator.choice(groups),
    }
    if may_copy and generator.random() < _PREDICTS_FURTHER:
        letters = sorted(set(model.pattern))
        pattern = "".join(generator.sample(letters, min(len(letters), generator.choice([1, 2, 2]))))
        variant["mtp"] = {"depths": generator.choice([1, 2]), "pattern": pattern, "weight": 0.5}
    if model.rope_theta is not None and model.head_size >= _FEWEST_COLUMNS:
        pairs = model.head_size // 2
        sections = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]
        variant["rope_sections"] = generator.choice([None, sections])
    return variant


_PLAIN_VOCABULARY = 61
"""Vocabulary of a model whose own would be its tokenizer's."""

_PREDICTS_FURTHER = 0.5
"""The share of decoders with multi-token prediction, among those that can have it."""

_FEWEST_COLUMNS = 6
"""Fewest columns of a head whose rotary embedding can have three coordinates."""
