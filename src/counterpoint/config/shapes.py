"""Whether the sizes of a module's model fit its layout."""

from collections.abc import Iterator

from counterpoint.config.models import DecoderConfig, MlpProjectorConfig, VitConfig
from counterpoint.config.problem import Problem
from counterpoint.config.schema import ModuleConfig


def shape_problems(name: str, module: ModuleConfig) -> Iterator[Problem]:
    """What does not divide or does not reach, each with its key."""
    where = f"modules.{name}"
    yield from _head_problems(f"{where}.model", module.model)
    yield from _tensor_parallel_problems(where, module)
    yield from _context_parallel_problems(where, module)
    yield from _stage_problems(where, module)


def _head_problems(where: str, model: VitConfig | DecoderConfig) -> Iterator[Problem]:
    derives_head_size = isinstance(model, VitConfig) or model.head_dim is None
    if derives_head_size and model.hidden % model.heads:
        remedy = "change one of them" if isinstance(model, VitConfig) else f"change one of them or set {where}.head_dim"
        yield Problem(f"{where}.hidden", f"{model.hidden}", f"a multiple of {where}.heads, {model.heads}", remedy)
    elif isinstance(model, DecoderConfig) and model.rope_theta is not None and model.head_size % 2:
        yield Problem(
            f"{where}.head_dim",
            f"{model.head_size}",
            f"an even width, because {where}.rope_theta rotates pairs",
            "change it or set rope_theta to null",
        )
    if model.heads % model.num_kv_heads:
        yield Problem(
            f"{where}.kv_heads",
            f"{model.num_kv_heads}",
            f"a divisor of {where}.heads, {model.heads}",
            "change one of them",
        )


def _tensor_parallel_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    model, tp = module.model, module.layout.tp
    cut = {"heads": model.heads, "ffn": model.ffn}
    if isinstance(model, DecoderConfig):
        cut["kv_heads"] = model.num_kv_heads
    elif isinstance(model.projector, MlpProjectorConfig):
        cut["projector.hidden"] = model.projector.hidden
    for key, size in cut.items():
        if size % tp:
            yield Problem(
                f"{where}.model.{key}",
                f"{size}",
                f"a multiple of {where}.layout.tp, {tp}",
                "choose a tp that divides it or change the model",
            )


def _context_parallel_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    model, layout = module.model, module.layout
    if model.heads % layout.tp == 0 and model.heads // layout.tp % layout.cp:
        yield Problem(
            f"{where}.model.heads",
            f"{model.heads}",
            f"a multiple of {where}.layout.tp x cp, {layout.tp} x {layout.cp}",
            "choose a cp that divides the heads of a tensor-parallel rank or change the model",
        )


def _stage_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    layout, layers = module.layout, module.model.num_layers
    stages = layout.pp * layout.chunks
    if layers < stages:
        yield Problem(
            f"{where}.layout.pp",
            f"{stages} stages for {layers} layers",
            "at least one layer for every stage",
            f"lower pp to at most {layers} or add layers",
        )
    elif layout.split != "even" and (len(layout.split) != stages or sum(layout.split) != layers):
        yield Problem(
            f"{where}.layout.split",
            f"{list(layout.split)}, {sum(layout.split)} layers in {len(layout.split)} stages",
            f"{layers} layers in {stages} stages",
            "change the list or leave it out for an even split",
        )
