"""The parts of a causal decoder (Llama, Qwen2 and Qwen3, their mixtures of experts, and Nemotron-H)."""

from collections.abc import Iterator
from functools import partial

from torch import nn

from counterpoint.families.decoder.depth import MtpDepth
from counterpoint.families.decoder.spec import DecoderConfig, MtpConfig
from counterpoint.kinds.family import Ends
from counterpoint.kinds.layer import LayerSection
from counterpoint.kinds.named import named
from counterpoint.layers import LAYERS
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.embedding import Embedding, NoCopy, WordsCopy, WordTable
from counterpoint.models.head import Head, TiedHead
from counterpoint.models.insert import DeepInsert
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def parts(section: DecoderConfig, ends: Ends) -> list[Part]:
    """The parts `embed`, `layers.N` (one per letter of the pattern), `inserts.N` where features of an encoder depth are
    added, `norm`, `words` and `mtp.N` for multi-token prediction, and `head`."""
    return [
        Part("embed", partial(_embedding, section, ends), makes_rows=True),
        *_layers(section, ends),
        Part("norm", partial(_final_norm, section), by_row=True),
        *_further(section, ends),
        # The rows of all depths of multi-token prediction are concatenated by columns; the head scores each separately.
        Part(
            "head",
            partial(_head, section, ends),
            reads=_TABLES if section.tied else (),
            makes_loss=True,
            scored=section.mtp is None,
        ),
    ]


def _layers(section: DecoderConfig, ends: Ends) -> Iterator[Part]:
    sections = section.layer_sections
    for number, letter in enumerate(section.pattern):
        layer = sections[letter]
        by_row = LAYERS[layer.kind].by_row
        yield Part(f"layers.{number}", partial(_layer, layer, letter, section.hidden), by_row=by_row)
        if number in ends.inserts:
            yield Part(f"inserts.{number}", partial(_insert, number))


def _layer(layer: LayerSection, letter: str, hidden: int, _earlier: Earlier) -> Layer:
    built: Layer = named(LAYERS[layer.kind].layer)(layer, hidden)
    built.kind = letter
    return built


def _further(section: DecoderConfig, ends: Ends) -> Iterator[Part]:
    """The copy of the embedding, and the depths that read it."""
    if section.mtp is not None:
        yield Part("words", partial(_words_copy, section, ends))
        for number in range(section.mtp.depths):
            yield Part(f"mtp.{number}", partial(_mtp_depth, section, section.mtp, number), reads=_TABLES)


def _words_copy(section: DecoderConfig, ends: Ends, earlier: Earlier) -> nn.Module:
    return NoCopy() if "embed" in earlier else WordsCopy(ends.vocab, section.hidden)


def _mtp_depth(section: DecoderConfig, mtp: MtpConfig, number: int, earlier: Earlier) -> nn.Module:
    sections = section.layer_sections
    layers = [_layer(sections[letter], letter, section.hidden, earlier) for letter in mtp.pattern]
    words = _table(earlier)
    assert words is not None, "the words come before the depths that read them"
    return MtpDepth(number + 1, section.hidden, section.norm_eps, words, section.embedding_scale, layers)


def _table(earlier: Earlier) -> WordTable | None:
    """The embedding or its copy, None if this chain has neither."""
    return next((table for name in _TABLES if isinstance(table := earlier.get(name), WordTable)), None)


def _insert(layer: int, _earlier: Earlier) -> nn.Module:
    return DeepInsert(layer)


def _embedding(section: DecoderConfig, ends: Ends, _earlier: Earlier) -> nn.Module:
    return Embedding(ends.vocab, section.hidden, section.embedding_scale)


def _final_norm(section: DecoderConfig, _earlier: Earlier) -> nn.Module:
    return RmsNorm(section.hidden, section.norm_eps)


def _head(section: DecoderConfig, ends: Ends, earlier: Earlier) -> nn.Module:
    words = _table(earlier) if section.tied else None
    weight = 0.0 if section.mtp is None else section.mtp.weight / section.mtp.depths
    return Head(ends.vocab, section.hidden, weight) if words is None else TiedHead(words, weight)


_TABLES = ("embed", "words")
"""The parts that may hold the vocabulary matrix: the embedding, and its copy in another stage."""
