"""Random cases for `verify --random`: any layout, placement, schedule and data that the config's models allow.

Candidate k is a pure function of (config, seed, k); `choose` takes from them so that every feature that exists is drawn
in at least 5 % of the cases, whatever the seed.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, product
from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config, DecoderConfig, ModelConfig, VitConfig
from counterpoint.config.shapes import heads_cut_by_cp, widths_cut_by_tp
from counterpoint.errors import CounterpointError
from counterpoint.verify.features import features_of

SHARE = 0.05
"""Every feature is in at least this share of the cases."""

_CANDIDATES_PER_CASE = 30
_FEWEST_CANDIDATES = 400


@dataclass(frozen=True, slots=True)
class Case:
    """One drawn case; `refusal` is why it cannot run, which is a defect of the drawing or of counterpoint."""

    id: int
    config: dict[str, Any]
    features: frozenset[str]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class _Degrees:
    pp: int
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int

    @property
    def stage_size(self) -> int:
        return self.dp_replicate * self.dp_shard * self.cp * self.tp

    @property
    def size(self) -> int:
        return self.pp * self.stage_size


def choose(base: Config, count: int, seed: int, world_size: int) -> list[Case]:
    """`count` cases in which every feature that any candidate has stands in at least 5 %."""
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
    """A chosen case all of whose features are in more cases than needed; the one with the fewest features."""
    free = [i for i, case in enumerate(chosen) if all(counts[feature] > wanted for feature in case.features)]
    return min(free, key=lambda i: (len(chosen[i].features), i), default=None)


def candidate(base: Config, seed: int, k: int, world_size: int) -> Case:
    """Candidate number `k`; its config loads, or the case says why not."""
    generator = random.Random(f"{seed}/{k}")
    data = _draw(base, generator, world_size)
    try:
        return Case(k, data, features_of(load_config(data)))
    except CounterpointError as error:
        return Case(k, data, frozenset(), refusal=str(error))


def _draw(base: Config, generator: random.Random, world_size: int) -> dict[str, Any]:
    data = base.resolved()
    vision = [name for name, module in base.modules.items() if isinstance(module.model, VitConfig)]
    language = next(name for name, module in base.modules.items() if isinstance(module.model, DecoderConfig))
    kinds = ["single", "disjoint", "disjoint", "colocated", "colocated", "mixed"] if vision else ["single"]
    ranks = None
    while ranks is None:
        ranks = _draw_layouts(base, generator, world_size, generator.choice(kinds), vision, language)
    used = sorted({rank for module in ranks.values() for rank in module["ranks"]})
    size = min(world_size, used[-1] + 1 + generator.choice([0, 0, 0, 1]))
    data["world"] = {"size": size, "idle": [r for r in range(size) if r not in used], "partial_overlap": True}
    data["modules"] = {name: data["modules"][name] | {"layout": layout} for name, layout in ranks.items()}
    for module in data["modules"].values():
        module["optimizer"] |= {"eps": 1e-3}
    data["modules"][language]["model"] |= _draw_variant(base.modules[language].model, ranks[language]["tp"], generator)
    data["edges"] = [edge for edge in data["edges"] if edge["source"] in ranks]
    microbatches = generator.choice([1, 2, 2, 3, 4, 5, 8])
    data["schedule"] |= {"kind": generator.choice(["gpipe", "1f1b", "1f1b"]), "microbatches": microbatches}
    data["training"] |= {
        "global_batch_samples": microbatches + generator.randrange(0, 7),
        "clip_norm": generator.choice([0.01, 0.05, 1.0]),
        "steps": 10,
    }
    data["data"] = _draw_data(generator, with_images=len(ranks) > 1, vocab=base.modules[language].model)
    data["modules"][language]["model"]["vocab"] = data["data"].pop("vocab")
    data["run"]["seed"] = generator.randrange(1000)
    return data


def _draw_variant(model: ModelConfig, tp: int, generator: random.Random) -> dict[str, Any]:
    """Options of a decoder that change what crosses ranks: tied words, positions, groups of heads, biases."""
    assert isinstance(model, DecoderConfig), "documents enter a decoder"
    groups = [n for n in range(tp, model.num_kv_heads + 1, tp) if model.heads % n == 0]
    variant: dict[str, Any] = {
        "tied": generator.choice([True, False]),
        "qkv_bias": generator.choice([True, False]),
        "kv_heads": generator.choice(groups),
    }
    if model.rope_theta is not None and model.head_size >= _FEWEST_COLUMNS:
        pairs = model.head_size // 2
        sections = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]
        variant["rope_sections"] = generator.choice([None, sections])
    return variant


_FEWEST_COLUMNS = 6
"""Columns of a head that can turn with three coordinates."""


def _draw_data(generator: random.Random, with_images: bool, vocab: Any) -> dict[str, Any]:
    absent = generator.choice([0.0, 0.0, 0.3, 0.7, 1.0])
    images = {"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2, 3])}
    side = {"kind": "uniform", "low": 8, "high": generator.choice([24, 40])}
    synthetic: dict[str, Any] = {
        "documents": 64,
        "seed": generator.randrange(1000),
        "text_tokens": {"kind": "uniform", "low": 1, "high": generator.choice([6, 14])},
        "without_loss": generator.choice([0.0, 0.0, 0.3, 1.0]),
    }
    data: dict[str, Any] = {
        "train": [{"synthetic": synthetic}],
        "sequence_tokens": generator.choice([48, 64]),
        "packing": generator.choice([False, True]),
        "balance": generator.choice(["none", "sample", "cost", "cost"]),
        "vocab": 61 if vocab.vocab == "tokenizer" else vocab.vocab,
    }
    if with_images:
        synthetic |= {
            "images_per_document": images, "image_height": side, "image_width": side, "without_images": absent,
        }  # fmt: skip
        data["image"] = {"size": None, "max_patches": 16}
    return data


def _draw_layouts(
    base: Config, generator: random.Random, world_size: int, kind: str, vision: list[str], language: str
) -> dict[str, dict[str, Any]] | None:
    names = [language] if kind == "single" else [*vision, language]
    degrees: dict[str, _Degrees] = {}
    for name in names:
        options = [d for d in _feasible(base, name, world_size) if _fits(d, kind, degrees, world_size)]
        if not options:
            return None
        # Weigh by size, so that one rank is no rarer than eight, then choose among layouts of that size.
        size = generator.choice(sorted({option.size for option in options}))
        degrees[name] = generator.choice([option for option in options if option.size == size])
    lists = _draw_ranks(generator, kind, {name: d.size for name, d in degrees.items()}, world_size)
    if lists is None:
        return None
    return {name: _layout(base, generator, name, degrees[name], lists[name]) for name in names}


def _fits(degrees: _Degrees, kind: str, others: dict[str, _Degrees], world_size: int) -> bool:
    if kind == "colocated":
        return all(degrees.size == other.size for other in others.values())
    if kind == "disjoint":
        return degrees.size + sum(other.size for other in others.values()) <= world_size - (0 if others else 1)
    if kind == "mixed":
        return degrees.size >= 1 and degrees.size + sum(other.size for other in others.values()) >= 3 * bool(others)
    return True


def _feasible(base: Config, name: str, world_size: int) -> Iterator[_Degrees]:
    model = base.modules[name].model
    widths, heads = widths_cut_by_tp(model).values(), heads_cut_by_cp(model).values()
    tensor = [tp for tp in range(1, world_size + 1) if all(width % tp == 0 for width in widths)]
    stages = range(1, min(model.num_layers, world_size) + 1)
    sizes = range(1, world_size + 1)
    for pp, replicate, shard, cp, tp in product(stages, (1, 2), sizes, sizes, tensor):
        degrees = _Degrees(pp, replicate, shard, cp, tp)
        if degrees.size <= world_size and all(count // tp % cp == 0 for count in heads):
            yield degrees


def _draw_expert_view(model: ModelConfig, generator: random.Random, stage_size: int) -> dict[str, int]:
    moe = model.moe if isinstance(model, DecoderConfig) else None
    if moe is None:
        return {"ep": 1, "etp": 1}
    degrees = range(1, stage_size + 1)
    options = [
        (ep, etp)
        for ep, etp in product(degrees, degrees)
        if stage_size % (ep * etp) == 0 and moe.experts % ep == 0 and moe.ffn % etp == 0
    ]
    ep, etp = generator.choice(options)
    return {"ep": ep, "etp": etp}


def _draw_ranks(
    generator: random.Random, kind: str, sizes: dict[str, int], world_size: int
) -> dict[str, list[int]] | None:
    """Ascending rank lists: behind each other in either order, interleaved, the same, or overlapping in part."""
    names = list(sizes)
    generator.shuffle(names)
    if kind in ("single", "colocated"):
        size = next(iter(sizes.values()))
        ranks = sorted(generator.sample(range(min(world_size, size + generator.choice([0, 0, 1]))), size))
        return dict.fromkeys(names, ranks)
    total = sum(sizes.values())
    if kind == "disjoint":
        order = list(range(total))
        if generator.random() < 0.4:
            generator.shuffle(order)
        lists, first = {}, 0
        for name in names:
            lists[name] = sorted(order[first : first + sizes[name]])
            first += sizes[name]
        return lists
    a, b = names
    most = min(sizes[a], sizes[b]) - (sizes[a] == sizes[b])
    least = max(1, total - world_size)
    if least > most:
        return None
    shared = generator.randint(least, most)
    return {a: list(range(sizes[a])), b: list(range(sizes[a] - shared, total - shared))}


def _layout(base: Config, generator: random.Random, name: str, degrees: _Degrees, ranks: list[int]) -> dict[str, Any]:
    layers = base.modules[name].model.num_layers
    split: str | list[int] = "even"
    if degrees.pp > 1 and generator.random() < 0.5:
        cuts = sorted(generator.sample(range(1, layers), degrees.pp - 1))
        split = [b - a for a, b in zip([0, *cuts], [*cuts, layers], strict=True)]
    return {
        "ranks": ranks,
        **asdict(degrees),
        "expert": _draw_expert_view(base.modules[name].model, generator, degrees.stage_size),
        "split": split,
        "sequence_parallel": generator.random() < 0.6,
        "reshard": generator.random() < 0.3,
    }
