"""Documents in files, and the run that `import` makes of a folder and of them: what it reads and what its models say.

Beside a folder's model lie its tokenizer and its processor, with settings drawn at random. The records are prepared,
the run's YAML is written and loaded, and one step is planned and read, as `counterpoint train` does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config as RunConfig
from counterpoint.config.yaml_text import parse_yaml, to_yaml
from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel
from counterpoint.data.feed.reader import Reader
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer_folder import TOKENIZER_FILE
from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.families.parts import parts_of
from counterpoint.importing.command import import_model
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.towers import Items, Towers, Wire
from counterpoint.plan.batch import BatchPlan, Span
from counterpoint.setup.run import check_data, prepare_run
from counterpoint.setup.settle import settle_items
from tests.unit.judge.hub_configs import SIDE
from tests.unit.judge.hub_judge import Said, said_of, started, whole_of
from tests.unit.judge.judge import REASON
from tests.unit.judge.models import gradients_of, logits_of, with_tensors
from tests.unit.judge.test_sounds import write_clip
from tests.unit.judge.towers import Named

Size = tuple[int, int]

BEGIN, END, BREAK = "<s>", "</s>", "\n"
LETTERS = "abcdefghijklmnop"
"""Words of the tokenizer, a number each from 3 on; all words of it are below those that stand for items."""

SEEN: tuple[Sequence[str], ...] = (("", VISION, "", VISION, ""), ("",), ("", VISION, ""))
HEARD: tuple[Sequence[str], ...] = (("", AUDIO, ""), ("",), (AUDIO, ""))
BOTH: tuple[Sequence[str], ...] = (("", VISION, "", AUDIO, "", VISION), ("",), (AUDIO, ""), ("", VISION))
READ: tuple[Sequence[str], ...] = (("",), ("",), ("",))
"""Of the user's turn in each record, texts, pictures and clips."""

_PROCESSORS: Mapping[str, str] = {
    "clip": "clip.image_processing_pil_clip:CLIPImageProcessorPil",
    "siglip": "siglip.image_processing_pil_siglip:SiglipImageProcessorPil",
    "siglip2": "siglip2.image_processing_pil_siglip2:Siglip2ImageProcessorPil",
    "convnextv2": "convnext.image_processing_pil_convnext:ConvNextImageProcessorPil",
    "qwen": "qwen2_vl.image_processing_pil_qwen2_vl:Qwen2VLImageProcessorPil",
    "llava": "llava.image_processing_pil_llava:LlavaImageProcessorPil",
    # Its own needs torchvision; it does to pixels of the right size what this one does by its constants.
    "omni": "clip.image_processing_pil_clip:CLIPImageProcessorPil",
    "whisper": "whisper.feature_extraction_whisper:WhisperFeatureExtractor",
    "parakeet": "parakeet.feature_extraction_parakeet:ParakeetFeatureExtractor",
}
_KINDS: Mapping[str, str] = {
    "clip": "clip", "clip_vision_model": "clip", "siglip": "siglip", "siglip_vision_model": "siglip",
    "siglip2": "siglip2", "siglip2_vision_model": "siglip2", "radio": "radio", "convnextv2": "convnextv2",
    "qwen2_5_vl_vision": "qwen", "qwen3_vl_vision": "qwen", "qwen2_5_vl": "qwen", "qwen3_vl": "qwen",
    "llava": "llava", "nemotron_h_omni": "omni", "nemotron_h_omni with sound": "omni",
    "whisper": "whisper", "whisper with a head": "whisper", "parakeet_encoder": "parakeet", "parakeet_ctc": "parakeet",
}  # fmt: skip
_FREE = ("radio", "convnextv2", "omni")
"""Kinds whose pictures keep their size; `import` makes them as large as config.json says."""

_MOST = 2**12


def kind_of(family: str) -> str:
    """The kind of items that a family takes, empty for a decoder alone."""
    return _KINDS.get(family, "")


class Record(NamedTuple):
    """A document: texts and files of the user's turn, and the answer."""

    parts: tuple[str | Path, ...]
    answer: str


@dataclass(frozen=True)
class Processors:
    """transformers' own processors, as they lie in a folder; None where a family has none."""

    pictures: Any = None
    clips: Any = None


def write_documents(family: str, seed: int, whole: CompositeModel, folder: Path) -> list[Record]:
    """Write records with their pictures and clips to a new folder, for a model of a family."""
    folder.mkdir()
    draw, records = Random(f"files {family} {seed}"), []
    files = {
        VISION: iter(_write_pictures(_sizes(family, whole), draw, folder)) if VISION in whole.modules else iter(()),
        AUDIO: iter(_write_clips(whole, folder)) if AUDIO in whole.modules else iter(()),
    }
    for content in _contents(whole):
        parts = tuple(next(files[one]) if one else _words(draw) for one in content)
        records.append(Record(parts, _words(draw)))
    (folder / "train.jsonl").write_text("".join(json.dumps(_in_messages(record)) + "\n" for record in records))
    return records


def _contents(whole: CompositeModel) -> tuple[Sequence[str], ...]:
    if VISION in whole.modules:
        return BOTH if AUDIO in whole.modules else SEEN
    return HEARD if AUDIO in whole.modules else READ


def _words(draw: Random) -> str:
    return "".join(draw.choices(LETTERS, k=draw.randint(2, 6)))


def _in_messages(record: Record) -> dict[str, Any]:
    parts = [_in_turn(part) for part in record.parts]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": record.answer}]}


def _in_turn(part: str | Path) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = "audio" if part.suffix == ".wav" else "image"
    return {"type": kind, kind: part.name}


def _sizes(family: str, whole: CompositeModel) -> tuple[Size, Size, Size]:
    """(height, width) of pictures of which both sides' rules for sizes make the same."""
    patch = whole.modules[VISION].model.section.patch
    match kind_of(family):
        case "siglip2":
            return (4 * patch, 9 * patch), (8 * patch, 18 * patch), (4 * patch, 9 * patch)
        case "radio":
            return (4 * patch, 4 * patch), (2 * patch, 3 * patch), (3 * patch, patch)
        case "convnextv2":
            unit = patch * 2 ** (len(whole.modules[VISION].model.section.depths) - 1)
            return (unit, unit), (2 * unit, unit), (unit, 2 * unit)
        case "qwen":
            return (8, 12), (9, 23), (12, 4)
        case "omni":
            return (4 * patch, 6 * patch), (2 * patch, 4 * patch), (2 * patch, 2 * patch)
        case _:
            side = SIDE * patch
            return (side, side), (2 * side + 4, 2 * side + 4), (side, side)


def _write_pictures(sizes: Sequence[Size], draw: Random, folder: Path) -> list[Path]:
    generator, files = np.random.default_rng(draw.randrange(2**32)), []
    for number, (height, width) in enumerate(sizes):
        files.append(folder / f"{number}.{'jpeg' if number == 1 else 'png'}")
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(files[-1])
    return files


def _write_clips(whole: CompositeModel, folder: Path) -> list[Path]:
    """A clip that is shorter than those that a table of positions holds, and a longer one of two channels."""
    section, files = whole.modules[AUDIO].model.section, []
    is_free = isinstance(section, ConformerConfig)
    length = 0.25 if is_free else section.positions * section.stride / 100
    for number, (share, channels) in enumerate(((0.7, 1), (1.3, 2))):
        files.append(folder / f"{number}.wav")
        write_clip(files[-1], share * length, channels, 1.0)
    return files


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of letters to a model's folder."""
    words = {word: number for number, word in enumerate((BEGIN, END, BREAK, *LETTERS))}
    backend = Backend(models.WordLevel(words))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.add_special_tokens([BEGIN, END])
    backend.save(str(folder / TOKENIZER_FILE))


def write_processors(family: str, seed: int, whole: CompositeModel, folder: Path) -> Processors:
    """Write transformers' processors of a family to a model's folder, with settings drawn from a seed."""
    kind, draw = kind_of(family), Random(f"processor {family} {seed}")
    pictures = clips = None
    if VISION in whole.modules and kind in _PROCESSORS:
        pictures = _made(kind, **_picture_options(kind, whole, draw))
    if AUDIO in whole.modules:
        section = whole.modules[AUDIO].model.section
        is_free = isinstance(section, ConformerConfig)
        seconds = {} if is_free else {"chunk_length": section.positions * section.stride // 100}
        clips = _made("parakeet" if is_free else "whisper", feature_size=section.mels, **seconds)
    made = {"image_processor": pictures, "feature_extractor": clips}
    found = {name: processor for name, processor in made.items() if processor is not None}
    if len(found) > 1:
        content = {name: json.loads(processor.to_json_string()) for name, processor in found.items()}
        (folder / "processor_config.json").write_text(json.dumps(content))
    else:
        for processor in found.values():
            processor.save_pretrained(folder)
    return Processors(pictures, clips)


def _picture_options(kind: str, whole: CompositeModel, draw: Random) -> dict[str, Any]:
    section = whole.modules[VISION].model.section
    side = SIDE * section.patch
    sizes: Mapping[str, dict[str, Any]] = {
        "siglip": {"size": {"height": side, "width": side}},
        "siglip2": {"patch_size": section.patch, "max_num_patches": 36},
        "convnextv2": {"do_resize": False},
        "omni": {"do_resize": False, "do_center_crop": False},
        "qwen": {
            "patch_size": section.patch, "temporal_patch_size": 2, "merge_size": 2,
            "size": {"shortest_edge": 16, "longest_edge": 2**20},
        },
    }  # fmt: skip
    square = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return {
        **sizes.get(kind, square),
        "image_mean": [round(draw.uniform(0.3, 0.6), 3) for _ in range(3)],
        "image_std": [round(draw.uniform(0.2, 0.5), 3) for _ in range(3)],
        # By Pillow's numbers: Lanczos, bilinear, bicubic.
        "resample": draw.choice([1, 2, 3]),
    }


def _made(kind: str, **options: Any) -> Any:
    module, name = _PROCESSORS[kind].split(":")
    return vars(pytest.importorskip(f"transformers.models.{module}", reason=REASON))[name](**options)


@dataclass(frozen=True)
class FilesRun:
    """What the one rank of a run reads of the step with all records, by module, and its models that start from the
    folder; a projector that the folder lacks is left out."""

    wires: tuple[Wire, ...]
    chains: Mapping[str, Chain]
    plan: BatchPlan
    batches: Mapping[str, Any]

    def say(self) -> tuple[Said, dict[str, Named]]:
        """The answer, which is of documents and items in the order of the records, the loss, and every gradient."""
        said = self._of_text() if LANGUAGE in self.chains else self._of_items()
        said.loss.backward()
        return said, {module: gradients_of(chain) for module, chain in self.chains.items()}

    def _of_text(self) -> Said:
        items = {wire.source: self._items(wire.source) for wire in self.wires}
        inserts, deep = Towers(self.chains, self.wires, items).into(LANGUAGE)
        batch: TextBatch = self.batches[LANGUAGE].with_inserts(inserts, deep)
        chain = self.chains[LANGUAGE]
        rows = torch.cat([torch.arange(span.rows_in) + span.row_in for span in self._spans(LANGUAGE)])
        return Said(logits_of(chain, batch)[rows], chain(None, batch)[MAIN])

    def _of_items(self) -> Said:
        ((module, chain),) = self.chains.items()
        outputs = chain(None, self.batches[module])
        return said_of({port: rows[self._kept(module)] for port, rows in outputs.items()})

    def _items(self, module: str) -> Items:
        starts = {span.document: span.row_in for span in self._spans(LANGUAGE)}
        spans = self._spans(module)
        places = [torch.arange(span.rows_out) + starts[span.document] + self.plan.item(span).position for span in spans]
        lengths = tuple(span.rows_out for span in spans)
        return Items(self.batches[module], self._kept(module), lengths, torch.cat(places))

    def _kept(self, module: str) -> Tensor:
        return torch.cat([torch.arange(span.rows_out) + span.row_out for span in self._spans(module)])

    def _spans(self, module: str) -> list[Span]:
        """Where documents or items of a module lie, in the order of the records."""
        ((share,),) = self.plan.shares[module]
        return sorted(share.spans, key=lambda span: (self.plan.documents[span.document].index, span.item))


def start_run(family: str, folder: Path, records: Path, scratch: Path) -> FilesRun:
    """Prepare records and import a folder as the commands do, and read the first step of the run, which has them
    all."""
    prepare(str(records), scratch / "data", PrepareOptions(tokenizer=folder / TOKENIZER_FILE))
    count = len((records / "train.jsonl").read_text().splitlines())
    config = settle_items(_config(family, folder, count, scratch))
    setup = prepare_run(config)
    check_data(config, setup.corpus)
    plan = setup.plan.batch(0, setup.corpus.packs(0))
    assert sorted(document.index for document in plan.documents) == list(range(count))
    inputs = Reader(setup.plan, 0, setup.corpus.sources, torch.float64).read(plan)
    assert not inputs.bad
    chains = {}
    for name, module in config.modules.items():
        if module.init_from is not None:
            values = started(name, setup.models[name], module.init_from)
            lacks_projector = not any(key.startswith("projector.") for key in values)
            parts = [part for part in parts_of(setup.models[name]) if part.name != "projector" or not lacks_projector]
            chains[name] = with_tensors(parts, values)
    wires = tuple(Wire(edge.source, edge.target, edge.depths) for edge in setup.plan.graph.edges)
    return FilesRun(wires, chains, plan, {module: own for (module, _number), own in inputs.batches.items()})


def _config(family: str, folder: Path, documents: int, scratch: Path) -> RunConfig:
    """The run's YAML, written and read back, with what a user changes in it."""
    imported, file = import_model(folder), scratch / "run.yaml"
    imported.write(file)
    if not imported.is_whole:
        file.write_text(to_yaml(_with_decoder(imported.text, folder)))
    changes: dict[str, object] = {
        "run.dir": scratch / "run", "run.device": "cpu", "schedule.microbatches": 1, "training.steps": 1,
        "training.global_batch_samples": documents, "data.train": f"[{{path: {scratch / 'data'}}}]",
    }  # fmt: skip
    if kind_of(family) in _FREE:
        changes |= {"modules.vision.model.image.size": "null", "modules.vision.model.image.max_patches": _MOST}
    return load_config(file, [f"{key}={value}" for key, value in changes.items()])


def _with_decoder(text: str, folder: Path) -> dict[str, Any]:
    """The part of a run that `import` writes for an encoder alone, with a decoder and an edge to it, as it asks for."""
    modules: dict[str, Any] = parse_yaml(text)["modules"]
    ((name, encoder),) = modules.items()
    ends = whole_of(folder).modules[name].model.ends
    has_projector = isinstance(encoder["init_from"], str)
    decoder = {"kind": "decoder", "pattern": "*-*-*-", "hidden": ends.leaving if has_projector else 16, "heads": 2,
               "ffn": 8, "vocab": 23}  # fmt: skip
    modules[LANGUAGE] = {"model": decoder, "layout": {"ranks": [0]}, "optimizer": {"lr": 1e-5}}
    depths = [{"after": after, "into": into} for into, after in enumerate(ends.taps)]
    wide = "float64"
    return {
        "modules": modules,
        "edges": [{"source": name, "target": LANGUAGE, "depths": depths}],
        "world": {"size": 1},
        "data": {"tokenizer": str(folder / TOKENIZER_FILE), "sequence_tokens": 256},
        "training": {"precision": {"parameters": wide, "compute": wide, "reduce": wide}},
    }
