"""Whether the sizes of a module's model fit its layout."""

from collections.abc import Iterator, Mapping

from counterpoint.config.custom import custom_problems, one_stage_problems
from counterpoint.config.models import (
    ClipEncoderConfig,
    ConformerConfig,
    CustomConfig,
    DecoderConfig,
    EncoderConfig,
    FeaturesConfig,
    ImageEncoderConfig,
    LayeredConfig,
    MlpProjectorConfig,
    ModelConfig,
    ProjectedConfig,
    VitConfig,
    WhisperConfig,
    can_interleave,
)
from counterpoint.config.schema import ModuleConfig
from counterpoint.modalities.clips.spec import FRAMES_A_SECOND
from counterpoint.section.problem import Problem, show


def shape_problems(name: str, module: ModuleConfig) -> Iterator[Problem]:
    """What does not divide or does not reach, each with its key."""
    where = f"modules.{name}"
    if isinstance(module.model, EncoderConfig):
        yield from _projector_problems(f"{where}.model", module.model)
    if isinstance(module.model, ImageEncoderConfig):
        yield from _image_problems(f"{where}.model", module.model)
    if isinstance(module.model, CustomConfig):
        yield from custom_problems(where, module.model, module.layout)
        yield from _expert_problems(where, module)
        yield from _tensor_parallel_problems(where, module)
        return
    if isinstance(module.model, FeaturesConfig):
        yield from one_stage_problems(where, module.layout, ("pp", "chunks"), "features have no layers")
        yield from _expert_problems(where, module)
        yield from _tensor_parallel_problems(where, module)
        return
    yield from _head_problems(f"{where}.model", module.model)
    if isinstance(module.model, DecoderConfig):
        yield from _layer_problems(f"{where}.model", module.model)
        yield from _rope_problems(f"{where}.model", module.model)
    elif isinstance(module.model, VitConfig):
        yield from _vit_problems(f"{where}.model", module.model)
    elif isinstance(module.model, WhisperConfig):
        yield from _whisper_problems(f"{where}.model", module.model)
    elif isinstance(module.model, ConformerConfig):
        yield from _conformer_problems(f"{where}.model", module.model)
    yield from _expert_problems(where, module)
    yield from _tensor_parallel_problems(where, module)
    yield from _context_parallel_problems(where, module)
    yield from _stage_problems(where, module)


def _projector_problems(where: str, model: EncoderConfig) -> Iterator[Problem]:
    projector, tap_norm = model.projector, model.tap_norm if isinstance(model, ProjectedConfig) else "none"
    default = type(projector).model_fields["norm_eps"].default
    if (projector.norm, tap_norm) == ("none", "none") and projector.norm_eps != default:
        expected = f"the default, {default}, because there is no norm"
        yield Problem(
            f"{where}.projector.norm_eps", show(projector.norm_eps), expected, "leave it out or give it a norm"
        )


MOST_MELS: Mapping[type[ClipEncoderConfig], int] = {WhisperConfig: 149, ConformerConfig: 192}
"""Bands up to which each has a frequency of the transforms that frames are made by, of 400 and of 512 samples."""


def _image_problems(where: str, model: ImageEncoderConfig) -> Iterator[Problem]:
    image, side = model.image, model.patch * model.merge
    if image.size is not None and image.size < side:
        expected = f"at least {side}, the patch x merge of {where}"
        yield Problem(f"{where}.image.size", f"{image.size} pixels", expected, "raise it or take a smaller patch")
    if image.max_patches < model.merge**2:
        expected = f"at least {model.merge**2}, one merged group of {where}"
        yield Problem(f"{where}.image.max_patches", f"{image.max_patches}", expected, "raise it or lower merge")


def _clip_problems(where: str, model: ClipEncoderConfig) -> Iterator[Problem]:
    yield from _mel_problems(where, model)
    seconds = model.audio.seconds
    if not isinstance(seconds, int):
        return
    rows, most = -(-seconds * FRAMES_A_SECOND // model.stride), model.positions // model.stack * model.stack
    if rows > most:
        expected = f"at most {most} rows, the positions of {where} in whole stacks"
        yield Problem(f"{where}.audio.seconds", f"{seconds}, {rows} rows", expected, "lower it or raise positions")


def _mel_problems(where: str, model: ClipEncoderConfig) -> Iterator[Problem]:
    most = MOST_MELS[type(model)]
    if model.mels > most:
        expected = f"at most {most}, because narrower bands lie between the frequencies of a frame"
        yield Problem(f"{where}.mels", f"{model.mels}", expected, "lower it")


def _head_problems(where: str, model: LayeredConfig | DecoderConfig) -> Iterator[Problem]:
    derives_head_size = isinstance(model, LayeredConfig) or model.head_dim is None
    if derives_head_size and model.hidden % model.heads:
        remedy = (
            "change one of them" if isinstance(model, LayeredConfig) else f"change one of them or set {where}.head_dim"
        )
        yield Problem(f"{where}.hidden", f"{model.hidden}", f"a multiple of {where}.heads, {model.heads}", remedy)
    elif isinstance(model, DecoderConfig) and "*" in model.kinds and model.rope_theta and model.head_size % 2:
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


def _whisper_problems(where: str, model: WhisperConfig) -> Iterator[Problem]:
    yield from _clip_problems(where, model)
    if model.hidden % 2:
        expected = "an even width, because half of a position are sines and half cosines"
        yield Problem(f"{where}.hidden", f"{model.hidden}", expected, "change it")
    if model.stack > model.positions:
        expected = f"at most {where}.positions, {model.positions}"
        yield Problem(f"{where}.stack", f"{model.stack}", expected, "change one of them")


def _vit_problems(where: str, model: VitConfig) -> Iterator[Problem]:
    if model.rotary_theta is not None and model.head_size % 4:
        got = f"{model.rotary_theta:g} with heads {model.head_size} wide"
        expected = "heads whose width is a multiple of 4, for pairs that turn with rows and with columns"
        yield Problem(f"{where}.rotary_theta", got, expected, "change heads or leave it out")
    if not model.positions and model.fit != "stretch":
        expected = f"stretch, because {where}.positions is 0"
        yield Problem(f"{where}.fit", show(model.fit), expected, "leave it out or give the side of a table")
    if model.window is None and model.full_layers:
        expected = f"none, because {where}.window is null"
        yield Problem(f"{where}.full_layers", f"{len(model.full_layers)} layers", expected, "leave them out")
    if model.window is not None and model.window % model.merge:
        expected = f"a multiple of {where}.merge, {model.merge}"
        yield Problem(f"{where}.window", f"{model.window}", expected, "change one of them")
    if model.window is not None and model.prefix:
        expected = "null, because learned rows before an image are in no window"
        yield Problem(
            f"{where}.window", f"{model.window} with prefix {model.prefix}", expected, "leave one of them out"
        )
    for i, layer in enumerate(model.full_layers):
        if layer >= model.layers:
            expected = f"a layer of the model, 0 to {model.layers - 1}"
            yield Problem(f"{where}.full_layers.{i}", f"{layer}", expected, "choose one of them")


_SECTIONS = {"-": "ffn", "M": "mamba", "E": "moe"}
"""The key that the layers of a kind need."""


def _layer_problems(where: str, model: DecoderConfig) -> Iterator[Problem]:
    given = {"ffn": model.ffn, "mamba": model.mamba, "moe": model.moe}
    for letter, key in _SECTIONS.items():
        if letter in model.kinds and given[key] is None:
            pattern = "pattern" if letter in model.pattern else "mtp.pattern"
            expected = f"it, because {where}.{pattern} has the letter {letter}"
            yield Problem(f"{where}.{key}", "nothing", expected, "add it")
        elif letter not in model.kinds and given[key] is not None:
            expected = f"null, because {where}.pattern has no letter {letter}"
            yield Problem(f"{where}.{key}", "a value", expected, "leave it out")
    if model.mamba is not None and model.mamba.heads % model.mamba.groups:
        yield Problem(
            f"{where}.mamba.groups",
            f"{model.mamba.groups}",
            f"a divisor of {where}.mamba.heads, {model.mamba.heads}",
            "change one of them",
        )
    if model.moe is not None and model.moe.top_k > model.moe.experts:
        yield Problem(
            f"{where}.moe.top_k",
            f"{model.moe.top_k}",
            f"at most {where}.moe.experts, {model.moe.experts}",
            "change one of them",
        )


def _rope_problems(where: str, model: DecoderConfig) -> Iterator[Problem]:
    sections, scaling = model.rope_sections, model.rope_scaling
    if scaling is not None and model.rope_theta is None:
        yield Problem(f"{where}.rope_scaling", "a value", f"null, because {where}.rope_theta is null", "change one")
    if scaling is not None and scaling.low_freq_factor >= scaling.high_freq_factor:
        expected = f"less than {where}.rope_scaling.high_freq_factor, {scaling.high_freq_factor:g}"
        yield Problem(f"{where}.rope_scaling.low_freq_factor", f"{scaling.low_freq_factor:g}", expected, "change one")
    if sections is None:
        if model.rope_interleaved:
            expected = f"false, because {where}.rope_sections is null"
            yield Problem(f"{where}.rope_interleaved", "true", expected, "change one")
        return
    if model.rope_theta is None:
        yield Problem(
            f"{where}.rope_sections", f"{list(sections)}", f"null, because {where}.rope_theta is null", "change one"
        )
    elif sum(sections) * 2 != model.head_size:
        yield Problem(
            f"{where}.rope_sections",
            f"{list(sections)}, {sum(sections)} pairs in all",
            f"the {model.head_size // 2} pairs of a head of width {model.head_size}",
            "change the list",
        )
    elif model.rope_interleaved and not can_interleave(sections):
        expected = "at most a third of the pairs for height and for width, because they take turns"
        yield Problem(f"{where}.rope_sections", f"{list(sections)}", expected, "change the list")


def _conformer_problems(where: str, model: ConformerConfig) -> Iterator[Problem]:
    yield from _clip_problems(where, model)
    if model.hidden % 2:
        expected = "an even width, because a distance is sines and cosines in turn"
        yield Problem(f"{where}.hidden", f"{model.hidden}", expected, "change it")
    if model.mels % model.stride:
        expected = f"a multiple of {model.stride}, because three convolutions halve the bands"
        yield Problem(f"{where}.mels", f"{model.mels}", expected, "change it")
    if model.conv % 2 == 0:
        expected = "an odd width, because as many rows are convolved on either side"
        yield Problem(f"{where}.conv", f"{model.conv}", expected, "change it")


def _expert_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    model, expert = module.model, module.layout.expert
    moe = model.moe if isinstance(model, DecoderConfig) and "E" in model.kinds else None
    if moe is None:
        for key, degree in (("ep", expert.ep), ("etp", expert.etp)):
            if degree > 1:
                yield Problem(
                    f"{where}.layout.expert.{key}",
                    f"{degree}",
                    f"1, because the model of {where} has no layer of experts",
                    "leave the key out",
                )
        return
    for key, size, axis, degree in (("experts", moe.experts, "ep", expert.ep), ("ffn", moe.ffn, "etp", expert.etp)):
        if size % degree:
            yield Problem(
                f"{where}.model.moe.{key}",
                f"{size}",
                f"a multiple of {where}.layout.expert.{axis}, {degree}",
                f"choose an {axis} that divides it or change the model",
            )


def widths_cut_by_tp(model: ModelConfig) -> dict[str, int]:
    """The sizes that tensor parallelism cuts, by their keys in the model's section."""
    if isinstance(model, EncoderConfig):
        cut = {"heads": model.heads, "ffn": model.ffn} if isinstance(model, LayeredConfig) else {}
        if isinstance(model.projector, MlpProjectorConfig):
            cut["projector.hidden"] = model.projector.hidden
        return cut
    cut = {"heads": model.heads, "kv_heads": model.num_kv_heads} if "*" in model.kinds else {}
    if model.ffn is not None:
        cut["ffn"] = model.ffn
    if model.mamba is not None:
        cut |= {"mamba.heads": model.mamba.heads, "mamba.groups": model.mamba.groups}
    if model.moe is not None:
        cut["moe.shared_ffn"] = model.moe.shared_ffn
    return cut


def heads_cut_by_cp(model: ModelConfig) -> dict[str, int]:
    """The heads that context parallelism shares out, by their keys in the model's section."""
    if isinstance(model, EncoderConfig):
        return {"heads": model.heads} if isinstance(model, LayeredConfig) else {}
    heads = {"heads": model.heads} if "*" in model.kinds else {}
    return heads if model.mamba is None else heads | {"mamba.heads": model.mamba.heads}


def _tensor_parallel_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    model, tp = module.model, module.layout.tp
    for key, size in widths_cut_by_tp(model).items():
        if size % tp:
            yield Problem(
                f"{where}.model.{key}",
                f"{size}",
                f"a multiple of {where}.layout.tp, {tp}",
                "choose a tp that divides it or change the model",
            )


def _context_parallel_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    layout = module.layout
    for key, heads in heads_cut_by_cp(module.model).items():
        if heads % layout.tp == 0 and heads // layout.tp % layout.cp:
            yield Problem(
                f"{where}.model.{key}",
                f"{heads}",
                f"a multiple of {where}.layout.tp x cp, {layout.tp} x {layout.cp}",
                "choose a cp that divides the heads of a tensor-parallel rank or change the model",
            )


def _stage_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    layout, layers = module.layout, module.model.num_layers
    stages = layout.pp * layout.chunks
    if layers < stages:
        yield Problem(
            f"{where}.layout.{'chunks' if layout.chunks > 1 else 'pp'}",
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
