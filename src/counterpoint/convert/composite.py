"""Checkpoints of towers, decoders and composite models, by the `model_type` of their config.json, and their modules."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from counterpoint.convert import clip, parakeet, radio
from counterpoint.convert.blocks import is_tied
from counterpoint.convert.decoder import Decoder
from counterpoint.convert.decoders import DECODERS, decoder_named
from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.kind import kind_of_config
from counterpoint.convert.known import known_keys
from counterpoint.convert.links import Link, Same
from counterpoint.convert.qwen_vision import deepstack_of, qwen2_5_links, qwen2_5_model, qwen3_links, qwen3_model
from counterpoint.convert.spelling import Spelling, below, spelled
from counterpoint.convert.tables import BOTH, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.towers import TOWERS
from counterpoint.convert.vision import activation_of
from counterpoint.errors import CheckpointError
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.encoder import EncoderSection
from counterpoint.kinds.family import Ends, Model
from counterpoint.projectors.mlp.spec import MlpProjectorConfig
from counterpoint.section.problem import nearest

VISION, AUDIO, LANGUAGE = "vision", "audio", "language"


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """A module in a checkpoint: its model and links. With `adds_projector` the checkpoint lacks its projector.

    `otherwise` are links to tensors that some checkpoints have instead. `copies` are pairs of names of a tied head,
    which some checkpoints store again, and the embedding; `unequal` is such a pair that turned out to be two matrices.
    """

    model: Model
    links: tuple[Link, ...]
    otherwise: tuple[Link, ...] = ()
    adds_projector: bool = False
    copies: tuple[tuple[str, str], ...] = ()
    unequal: tuple[str, str] | None = None


@final
@dataclass(frozen=True, slots=True)
class CompositeModel:
    """The modules that a checkpoint holds, one or several, by name, and patterns of tensors that are `unused` here.

    Names are those in links, which `spelling` finds from others. For each of the `depths` (after, into), rows that
    leave layer `after` of `vision` are added after layer `into` of `language`.
    """

    modules: Mapping[str, Stored]
    unused: tuple[str, ...] = ()
    spelling: Spelling = field(default_factory=dict)
    depths: tuple[tuple[int, int], ...] = ()

    def spell(self, name: str) -> str:
        """The name in links of a tensor that is found by this one."""
        return spelled(name, self.spelling)


def composite_of(config: Mapping[str, Any], where: str = "config.json") -> CompositeModel:
    """The modules of the checkpoint with this config.json, which messages call `where`; raises CheckpointError."""
    fields = Fields(as_of_today(config), where, kind_of_config(config), known=known_keys())
    name = fields.kind or fields.text("model_type")
    if name not in DECODERS and name not in COMPOSITES:
        raise _unknown(fields, name)
    whole = COMPOSITES[name](fields) if name in COMPOSITES else _decoder(fields)
    fields.refuse_rest()
    fields.refuse_changed(config.get("transformers_version"))
    return whole


def as_of_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with today's names of its keys; one that has a key under both names keeps the newer one's value."""
    older = _OLDER_KEYS.get(kind_of_config(config) or "", {})
    missing = {old: new for old, new in older.items() if old in config and config.get(new) is None}
    kept = {key: value for key, value in config.items() if key not in older and key not in missing.values()}
    return {**kept, **{new: config[old] for old, new in missing.items()}}


_OLDER_KEYS: Mapping[str, Mapping[str, str]] = {
    "nemotron_h_omni": {
        "llm_config": "text_config",
        "sound_config": "audio_config",
        "vit_hidden_size": "vision_hidden_size",
        "img_context_token_id": "image_token_id",
        "video_context_token_id": "video_token_id",
        "sound_context_token_id": "audio_token_id",
    },
}
"""By `model_type`: keys of the files that its authors published (transformers' configuration_nemotron_h_omni.py)."""


def _unknown(fields: Fields, name: str) -> CheckpointError:
    """The error for a `model_type` that is not read here."""
    known = (*DECODERS, *COMPOSITES)
    alike = nearest(name, known)
    meant = f" (did you mean {alike}?)" if alike else ""
    # Such a model exists as Python files in the folder alone.
    code = " The folder's own code, named in auto_map, is never executed." if fields.has("auto_map") else ""
    return CheckpointError(
        f"Model type {name!r} is none of {', '.join(known)}{meant}: choose a model of one of these.{code}"
    )


def _decoder(fields: Fields) -> CompositeModel:
    decoder = decoder_named(fields.kind)
    return CompositeModel({LANGUAGE: _language(fields, str)}, decoder.unused, decoder.spelling(decoder.base, ""))


def _section(fields: Fields, key: str, kind: str, *older: str) -> Fields:
    """A section that describes a model of this kind, for which some files have an `older` name."""
    section = fields.section(key, kind)
    section.demand("model_type", kind, *older)
    return section


def _tower(tower: Tower[Any]) -> Callable[[Fields], CompositeModel]:
    """A folder with this tower alone."""

    def alone(fields: Fields) -> CompositeModel:
        section = tower.section(fields)
        module, stored = _encoder(section, tower.links(section), tower.otherwise(section, fields))
        return CompositeModel({module: stored}, tower.unused, tower.spelling)

    return alone


def _pair(kind: str) -> Callable[[Fields], CompositeModel]:
    """A folder with a tower of this kind and one of text."""

    def pair(fields: Fields) -> CompositeModel:
        whole = _tower(TOWERS[kind])(_section(fields, "vision_config", kind))
        return replace(whole, unused=(*whole.unused, *clip.UNUSED_OF_PAIRS), spelling={})

    return pair


def _parakeet_ctc(fields: Fields) -> CompositeModel:
    section, prefix = parakeet.parakeet_section(_section(fields, "encoder_config", "parakeet_encoder")), "encoder."
    unused = (*(f"{prefix}{name}" for name in parakeet.UNUSED), "ctc_head.*")
    module, stored = _encoder(section, _below(prefix, parakeet.parakeet_links(section)))
    return CompositeModel({module: stored}, unused)


def _encoder(section: EncoderSection, links: Iterable[Link], otherwise: Iterable[Link] = ()) -> tuple[str, Stored]:
    # The section of a folder lacks this key, which only the config has, but its class has the field.
    module = VISION if "image" in type(section).model_fields else AUDIO
    # Nothing reads the rows yet, so they leave with the width that they have.
    model = Model(section, Ends(leaving=section.projected))
    return module, Stored(model, tuple(links), tuple(otherwise), adds_projector=True)


def _qwen2_5_vision(fields: Fields) -> CompositeModel:
    model = qwen2_5_model(fields)
    return CompositeModel({VISION: Stored(model, tuple(qwen2_5_links(model.section)))}, spelling=_ALONE)


def _qwen3_vision(fields: Fields) -> CompositeModel:
    model = qwen3_model(fields)
    links = tuple(qwen3_links(model.section, deepstack_of(fields)))
    return CompositeModel({VISION: Stored(model, links)}, spelling=_ALONE)


_ALONE: Spelling = {"visual.": "", "model.visual.": ""}
"""Of a tower that was cut out of a composite model."""


def _qwen2_5_vl(fields: Fields) -> CompositeModel:
    model = qwen2_5_model(_section(fields, "vision_config", "qwen2_5_vl_vision", "qwen2_5_vl"))
    vision = Stored(model, _below("visual.", qwen2_5_links(model.section)))
    text = fields.flat("qwen2_5_vl_text")
    if fields.has("text_config"):
        text = _section(fields, "text_config", "qwen2_5_vl_text")
        fields.pass_over(text.values)
    language, decoder = _language(text, str, tied=is_tied(fields) or is_tied(text)), decoder_named(text.kind)
    spelling = {
        **decoder.spelling(decoder.base, "", "model.language_model.", "language_model."),
        "model.visual.": "visual.",
    }
    return CompositeModel({VISION: vision, LANGUAGE: language}, decoder.unused, spelling)


def _qwen3_vl(fields: Fields) -> CompositeModel:
    vision_fields = _section(fields, "vision_config", "qwen3_vl_vision", "qwen3_vl")
    model = qwen3_model(vision_fields)
    vision = Stored(model, _below("model.visual.", qwen3_links(model.section, deepstack_of(vision_fields))))
    text = _section(fields, "text_config", "qwen3_vl_text")
    language = _language(text, lambda name: name.replace("model.", "model.language_model.", 1), tied=is_tied(fields))
    taps, layers = model.ends.taps, language.model.section.num_layers
    if 2 * len(taps) > layers:
        expected = f"as many as the {layers // 2} layers of text at most"
        raise vision_fields.unlike("deepstack_visual_indexes", list(taps), expected)
    # Each block of theirs is two layers of ours, and features join after the second.
    depths = tuple((after, 2 * block + 1) for block, after in enumerate(taps))
    ends = replace(language.model.ends, inserts=tuple(into for _after, into in depths))
    joined = replace(language, model=language.model._replace(ends=ends))
    decoder = decoder_named(text.kind)
    spelling = {
        **decoder.spelling("model.language_model.", "model.language_model.", "language_model."),
        "visual.": "model.visual.",
    }
    return CompositeModel({VISION: vision, LANGUAGE: joined}, decoder.unused, spelling, depths)


def _omni(fields: Fields) -> CompositeModel:
    fields.demand("downsample_ratio", 1 / _OMNI_MERGE)
    fields.demand("ps_version", "v2")
    text = _section(fields, "text_config", "nemotron_h")
    text.demand("num_nextn_predict_layers", 0)
    language, tower = _language(text, lambda name: f"language_model.{name}"), "vision_model."
    hidden = language.model.section.hidden
    own = {
        "merge": _OMNI_MERGE,
        "projector": _omni_projector(fields, "projector_hidden_size", bias=False),
    }
    vision_fields = _section(fields, "vision_config", "radio", "")
    vision = radio.radio_section(vision_fields).model_copy(update=own)
    projector = {"norm.weight": "0.weight", "mlp.up.weight": "1.weight", "mlp.down.weight": "3.weight"}
    links = (*_below(tower, radio.radio_links(vision)), *renamed("projector", "mlp1", projector))
    otherwise = _below(tower, radio.radio_otherwise(vision, vision_fields))
    decoder = decoder_named(text.kind)
    unused = tuple(f"{tower}{name}" for name in radio.UNUSED) + _unused_below("language_model.", decoder)
    # transformers finds its features of sound elsewhere, and passes over those that lie in the file.
    unused += (f"{_SOUND_TOWER}feature_extractor.*",)
    modules = {VISION: Stored(Model(vision, Ends(leaving=hidden)), links, otherwise)}
    spelling = {
        **decoder.spelling(f"language_model.{decoder.base}", "language_model."),
        **below(tower, radio.SPELLING),
        **_OMNI_IN_MEMORY,
    }
    if fields.has("audio_config"):
        sound = _section(fields, "audio_config", "parakeet_encoder", "parakeet")
        sound.demand("sampling_rate", 16000)
        modules[AUDIO] = _sound(sound, hidden)
        unused += tuple(f"{_SOUND_TOWER}{name}" for name in parakeet.UNUSED)
    return CompositeModel({**modules, LANGUAGE: language}, unused, spelling)


_OMNI_MERGE = 2
_SOUND_TOWER = "sound_encoder.encoder."
_OMNI_IN_MEMORY: Spelling = {
    "multi_modal_projector.layer_norm.": "mlp1.0.",
    "multi_modal_projector.linear_1.": "mlp1.1.",
    "multi_modal_projector.linear_2.": "mlp1.3.",
    "audio_tower.": _SOUND_TOWER,
    "embed_audio.layer_norm.": "sound_projection.norm.",
    "embed_audio.linear_1.": "sound_projection.linear1.",
    "embed_audio.linear_2.": "sound_projection.linear2.",
}


def _omni_projector(fields: Fields, width: str, *, bias: bool) -> MlpProjectorConfig:
    """The projector of pictures or of sound, whose inner width is at the key `width`."""
    hidden = fields.integer(width)
    return described(
        MlpProjectorConfig, fields, hidden=hidden, norm="rms", norm_eps=1e-5, activation="relu2", bias=bias
    )


def _sound(fields: Fields, out: int) -> Stored:
    bias = fields.has("projection_bias") and fields.flag("projection_bias")
    projector = _omni_projector(fields, "projection_hidden_size", bias=bias)
    section = parakeet.parakeet_section(fields).model_copy(update={"projector": projector})
    kinds = BOTH if bias else ("weight",)
    names = {f"mlp.{o}.{x}": f"{t}.{x}" for o, t in (("up", "linear1"), ("down", "linear2")) for x in kinds}
    links = renamed("projector", "sound_projection", {"norm.weight": "norm.weight", **names})
    return Stored(Model(section, Ends(leaving=out)), (*_below(_SOUND_TOWER, parakeet.parakeet_links(section)), *links))


_LLAVA_TOWER, _LLAVA_TEXT = "vision_tower.", "language_model."


def _llava(fields: Fields) -> CompositeModel:
    fields.demand("vision_feature_select_strategy", "default")
    whole = clip.clip_section(_section(fields, "vision_config", "clip_vision_model"))
    text = fields.section("text_config", fields.kind_of("text_config", "llama"))
    tied = is_tied(fields) or is_tied(text)
    language = _language(text, lambda name: f"{_LLAVA_TEXT}{name}", tied=tied)
    hidden = language.model.section.hidden
    bias = fields.flag("multimodal_projector_bias")
    activation = activation_of(fields, "projector_hidden_act")
    own = {
        "layers": _feature_layers(fields, whole.layers),
        "projector": described(MlpProjectorConfig, fields, hidden=hidden, activation=activation, bias=bias),
    }
    vision = whole.model_copy(update=own)
    kinds = BOTH if bias else ("weight",)
    names = {f"mlp.{o}.{x}": f"{t}.{x}" for o, t in (("up", "linear_1"), ("down", "linear_2")) for x in kinds}
    links = (*_below(_LLAVA_TOWER, clip.clip_links(vision)), *renamed("projector", "multi_modal_projector", names))
    above = range(vision.layers, whole.layers)
    unused = (*clip.UNUSED_OF_CLIP, *(f"{clip.PREFIX}encoder.layers.{layer}.*" for layer in above))
    return CompositeModel(
        {VISION: Stored(Model(vision, Ends(leaving=hidden)), links), LANGUAGE: language},
        (*(f"{_LLAVA_TOWER}{name}" for name in unused), *_unused_below(_LLAVA_TEXT, decoder_named(text.kind))),
        _llava_spelling(decoder_named(text.kind)),
    )


def _llava_spelling(decoder: Decoder) -> Spelling:
    # Some releases of transformers 5 wrote `model.` twice.
    bases = (_LLAVA_TEXT, f"{_LLAVA_TEXT}model.", f"model.{_LLAVA_TEXT}")
    return {
        **decoder.spelling(f"{_LLAVA_TEXT}{decoder.base}", *bases),
        "lm_head.": f"{_LLAVA_TEXT}lm_head.",
        **below(_LLAVA_TOWER, clip.SPELLING, f"model.{_LLAVA_TOWER}"),
        "model.multi_modal_projector.": "multi_modal_projector.",
    }


def _unused_below(prefix: str, decoder: Decoder) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in decoder.unused)


def _feature_layers(fields: Fields, layers: int) -> int:
    """Number of layers that the features pass, counted from the end if negative: -1 is all."""
    chosen = fields.integer("vision_feature_layer", least=None)
    count = chosen if chosen >= 0 else layers + 1 + chosen
    if not 1 <= count <= layers:
        raise fields.unlike("vision_feature_layer", chosen, f"one of {layers} layers")
    return count


def _language(fields: Fields, spell: Callable[[str], str], tied: bool | None = None) -> Stored:
    """A decoder; the config of a composite model says whether embedding and head are `tied`."""
    decoder = decoder_named(fields.kind)
    section = decoder.section(fields)
    if tied is not None:
        section = section.model_copy(update={"tied": tied})
    copies = tuple((spell(copy), spell(word)) for copy, word in _copies(decoder, section))
    model = Model(section, Ends(vocab=fields.integer("vocab_size")))
    links, otherwise = (
        tuple(link.respelled(spell) for link in links) for links in (decoder.links(section), decoder.otherwise(section))
    )
    # Where only the head of the two is stored, transformers ties both to it.
    otherwise += tuple(Same(("embed.weight",), (head,)) for head, _words in copies)
    return Stored(model, links, otherwise, copies=copies)


def _copies(decoder: Decoder, section: DecoderConfig) -> Iterator[tuple[str, str]]:
    """The names of a tied head, which some programs store again, and of the embedding."""
    if section.tied:
        apart = section.model_copy(update={"tied": False})
        theirs = {link.ours: link.theirs for link in decoder.links(apart)}
        yield theirs["head.weight",][0], theirs["embed.weight",][0]


def _below(prefix: str, links: Iterable[Link]) -> tuple[Link, ...]:
    return tuple(link.respelled(lambda name: f"{prefix}{name}") for link in links)


COMPOSITES: Mapping[str, Callable[[Fields], CompositeModel]] = {
    **{kind: _tower(tower) for kind, tower in TOWERS.items()},
    **{kind: _pair(f"{kind}_vision_model") for kind in ("clip", "siglip", "siglip2")},
    "qwen2_5_vl_vision": _qwen2_5_vision,
    "qwen3_vl_vision": _qwen3_vision,
    "parakeet_ctc": _parakeet_ctc,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "nemotron_h_omni": _omni,
}
