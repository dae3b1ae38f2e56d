"""What transformers says of documents in files: its tokenizer, its processors and its model of the same folder."""

import importlib
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from counterpoint.convert.composite import VISION, CompositeModel
from counterpoint.modalities.clips.normalised_mel import normalised_log_mel
from counterpoint.modalities.clips.spec import RATE
from counterpoint.models.chain import MAIN
from counterpoint.plan.samples import NO_LABEL
from tests.unit.judge.hub_configs import AUDIO_TOKEN, IMAGE_TOKEN
from tests.unit.judge.hub_files import BEGIN, BREAK, END, Processors, Record, kind_of
from tests.unit.judge.hub_judge import Said, Theirs, said_of
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.processors import condition_in_float32
from tests.unit.judge.towers import Named, qwen_outputs
from tests.unit.judge.wholes import mean_loss
from tests.unit.modalities.test_normalised_mel import judge as wide_extractor

ROUNDED = 1e-5
"""Of frames that are normalised over a clip, theirs and ours in float32."""


@dataclass(frozen=True)
class Documents:
    """Records as transformers reads them, from the files that a folder of a family has."""

    family: str
    folder: Path
    records: Sequence[Record]
    processors: Processors
    whole: CompositeModel
    patch: pytest.MonkeyPatch

    def theirs(self) -> Theirs:
        """What a model is asked about them."""
        if len(self.whole.modules) > 1 or not kind_of(self.family):
            return self._of_text
        return self._of_pictures if VISION in self.whole.modules else self._of_clips

    def _of_text(self, model: Any) -> Said:
        laid = [self._laid(record, model) for record in self.records]
        logits = [model(input_ids=ids[None], use_cache=False, **more).logits[0] for ids, _labels, more in laid]
        return Said(torch.cat(logits), mean_loss(logits, [labels for _ids, labels, _more in laid]))

    def _of_pictures(self, model: Any) -> Said:
        tower = getattr(model, "vision_model", model)
        if self.family == "radio":
            condition_in_float32(model)
        taps = self.whole.modules[VISION].model.ends.taps
        said = [_features(kind_of(self.family), tower, self._picture(file), taps) for file in self._files()]
        return said_of({port: torch.cat([one[port] for one in said]) for port in said[0]})

    def _of_clips(self, model: Any) -> Said:
        encoder = model.get_encoder() if kind_of(self.family) == "whisper" else model
        # A Parakeet with a head has an encoder; that of one without is the list of its layers.
        if isinstance(getattr(model, "encoder", None), torch.nn.Module) and hasattr(model.encoder, "subsampling"):
            encoder = model.encoder
        return said_of({MAIN: torch.cat([encoder(self._clip(file)).last_hidden_state[0] for file in self._files()])})

    def _files(self) -> list[Path]:
        return [part for record in self.records for part in record.parts if isinstance(part, Path)]

    def _laid(self, record: Record, model: Any) -> tuple[Tensor, Tensor, Named]:
        """Ids and labels (tokens,) of a document, and what else the model takes of it."""
        ids, images, clips = self._ids(BEGIN), [], []
        for part in record.parts:
            if isinstance(part, str):
                ids += self._ids(part)
            elif part.suffix == ".wav":
                clips.append(self._clip(part))
                # A row too many of clips that end with a row's last frame is what a mask would say.
                ids += [AUDIO_TOKEN] * -(-clips[-1].shape[1] // model.config.audio_config.subsampling_factor)
            else:
                images.append(self._picture(part))
                ids += [IMAGE_TOKEN] * _rows(kind_of(self.family), images[-1], model.config)
        prompt = len(ids) + len(self._ids(BREAK))
        ids += self._ids(BREAK + record.answer + END)
        tokens, labels = torch.tensor(ids), torch.full((len(ids),), NO_LABEL)
        labels[prompt - 1 : -1] = tokens[prompt:]
        return tokens, labels, _inputs(kind_of(self.family), tokens, images, clips, model.config)

    def _ids(self, text: str) -> list[int]:
        """Ids of words, of the folder's tokenizer as transformers opens it."""
        import transformers

        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(self.folder / "tokenizer.json"))
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _picture(self, file: Path) -> dict[str, Tensor]:
        """A picture's file as its processor makes it, wide."""
        with Image.open(file) as image:
            if self.processors.pictures is None:
                # From 0 to 1, which a RADIO's own conditioner takes.
                pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1).copy()) / 255
                return {"pixel_values": pixels[None].double()}
            made = self.processors.pictures(image, return_tensors="pt")
        return {key: value.double() if value.is_floating_point() else value for key, value in made.items()}

    def _clip(self, file: Path) -> Tensor:
        """A clip's file as its extractor makes it in float64, rounded to float32: Whisper's (1, mels, frames), else
        (1, frames, mels)."""
        samples, extractor = _samples(file), self.processors.clips
        is_whisper = kind_of(self.family) == "whisper"
        torch.set_default_dtype(torch.float64)
        try:
            if is_whisper:
                _lift_whisper(self.patch)
            else:
                extractor = wide_extractor(extractor.feature_size)
            made = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        finally:
            torch.set_default_dtype(torch.float32)
        frames: Tensor = made["input_features"]
        if is_whisper:
            # `Tensor.float` is lifted.
            return frames.to(torch.float32).double()
        frames = frames[made["attention_mask"].bool()]
        ours = torch.from_numpy(normalised_log_mel(samples.astype(np.float32), extractor.feature_size)).double()
        # A clip's mean and spread are sums, which differ in their last bits: ours are what both sides read on.
        assert (frames - ours).abs().max() <= ROUNDED
        return ours[None]


def _lift_whisper(patch: pytest.MonkeyPatch) -> None:
    """Lift the casts of its extractor, unless they are."""
    extraction = importlib.import_module("transformers.models.whisper.feature_extraction_whisper")
    if extraction.torch is torch:
        lift_casts(patch, extraction)


def _samples(file: Path) -> NDArray[np.float64]:
    """The mean of a WAV file's channels, (samples,) in [-1, 1]."""
    with wave.open(str(file)) as read:
        values = np.frombuffer(read.readframes(read.getnframes()), "<i2").reshape(-1, read.getnchannels())
    samples: NDArray[np.float64] = values.astype(np.float64).mean(axis=1) / 2**15
    return samples


def _rows(kind: str, picture: Mapping[str, Tensor], config: Any) -> int:
    """Rows of a picture in a document."""
    vision = config.vision_config
    if kind == "qwen":
        return int(picture["image_grid_thw"].prod() // vision.spatial_merge_size**2)
    height, width = picture["pixel_values"].shape[2:]
    patches: int = height * width // vision.patch_size**2
    return patches if kind == "llava" else int(patches * config.downsample_ratio**2)


def _inputs(
    kind: str, ids: Tensor, images: Sequence[Mapping[str, Tensor]], clips: Sequence[Tensor], config: Any
) -> Named:
    """What a model takes beside ids of a document."""
    made = [_flat(image, config.vision_config.patch_size) if kind == "omni" else image for image in images]
    found: Named = {key: torch.cat([one[key] for one in made]) for key in (made[0] if made else ())}
    if made and kind == "qwen":
        found["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()[None]
    if clips:
        found["input_features"] = torch.cat(list(clips))
    return found


def _flat(picture: Mapping[str, Tensor], patch: int) -> dict[str, Tensor]:
    """One picture as a Nemotron-Omni takes it: patches row by row, and their grid."""
    _one, channels, height, width = picture["pixel_values"].shape
    rows, columns = height // patch, width // patch
    cut = picture["pixel_values"].reshape(channels, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)
    return {"pixel_values": cut.reshape(rows * columns, -1), "image_grid_hw": torch.tensor([[rows, columns]])}


def _features(kind: str, tower: Any, picture: Mapping[str, Tensor], taps: tuple[int, ...]) -> Named:
    """What leaves the judge's tower, by ports, of what its processor made of one picture."""
    if kind == "qwen":
        return qwen_outputs(tower(picture["pixel_values"], grid_thw=picture["image_grid_thw"]), taps)
    if kind == "radio":
        return {MAIN: tower(pixel_values=picture["pixel_values"]).features[0]}
    rows = tower(**picture).last_hidden_state[0]
    return {MAIN: _AS_ROWS.get(kind, _same)(rows, picture)}


def _same(rows: Tensor, _picture: Mapping[str, Tensor]) -> Tensor:
    return rows


_AS_ROWS: Mapping[str, Callable[[Tensor, Mapping[str, Tensor]], Tensor]] = {
    "clip": lambda rows, _picture: rows[1:],
    "siglip2": lambda rows, picture: rows[picture["pixel_attention_mask"][0].bool()],
    "convnextv2": lambda rows, _picture: rows.flatten(1).T,
}
