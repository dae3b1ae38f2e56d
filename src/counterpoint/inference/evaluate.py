"""`evaluate` and `generate`: what a trained run says of held-out samples and of a picture of yours."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterpoint.config.load import load_run_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import EvaluationSplit, item_settings, open_corpus, open_tokenizer
from counterpoint.data.images import ItemSettings
from counterpoint.data.index import MARKS
from counterpoint.data.payload import IMAGE, ITEM_ROW
from counterpoint.data.pictures import image_size
from counterpoint.data.prepared import PreparedSource
from counterpoint.data.tokenizer import Tokenizer
from counterpoint.errors import CheckpointError, DataError
from counterpoint.inference.plain import PlainModel, Prompt, greedy
from counterpoint.plan.build import build_plan
from counterpoint.train.checkpoint import checkpoint_folder, list_checkpoints

_BATCH = 64
_MOST_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Prediction:
    """One held-out sample: its document, the true text and what the model wrote."""

    index: int
    truth: str
    written: str

    @property
    def is_exact(self) -> bool:
        """Whether both are the same text."""
        return self.truth == self.written


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written for a split, and how many documents were left out; `why` is of the first unreadable one."""

    rows: tuple[Prediction, ...]
    without_target: int = 0
    unreadable: int = 0
    why: str = ""

    @property
    def exact(self) -> float:
        """The share of predictions that equal the truth."""
        return sum(row.is_exact for row in self.rows) / max(len(self.rows), 1)

    @property
    def left_out(self) -> str:
        """How many documents were left out and why, empty if none was."""
        parts = [f"{self.without_target} without a target"] if self.without_target else []
        parts += [f"{self.unreadable} with an unreadable item (the first: {self.why})"] if self.unreadable else []
        return " and ".join(parts)


@dataclass(frozen=True)
class TrainedRun:
    """A run folder opened for reading: its config, tokenizer and a plain model at one step."""

    folder: Path
    config: Config
    tokenizer: Tokenizer
    model: PlainModel
    step: int

    @classmethod
    def open(cls, folder: Path, step: int | None = None, device: str = "cpu") -> "TrainedRun":
        """Open a run at a step (the newest unless given); raises CheckpointError or DataError."""
        config_file = folder / "config.yaml"
        if not config_file.is_file():
            raise CheckpointError(f"{folder}: no config.yaml, expected a run folder; give the run.dir of a training")
        config = load_run_config(config_file)
        steps = list_checkpoints(folder)
        if not steps or (step is not None and step not in steps):
            wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise CheckpointError(f"{folder}: has no {wanted}, found steps {steps}; train first, or choose one of them")
        tokenizer = open_tokenizer(config)
        if tokenizer is None:
            raise DataError(
                f"{folder}: its config has no data.tokenizer, expected one to write text; add it to the run"
            )
        chosen = steps[-1] if step is None else step
        plan = build_plan(config, tokenizer.vocabulary)
        model = PlainModel.load(plan, checkpoint_folder(folder, chosen), torch.device(device))
        return cls(folder, config, tokenizer, model, chosen)

    def predict(self, split: EvaluationSplit) -> Predictions:
        """Greedy text for the documents of a prepared split, from their prompts: all rows before the first loss token.

        A document without a loss token has no truth, and one without its image no prompt: both are left out.
        """
        rows: list[Prediction] = []
        bad: list[str] = []
        without_target = 0
        for source in split.sources:
            if not isinstance(source, PreparedSource):
                raise DataError(
                    f"evaluation split {split.name}: synthetic documents have no text; evaluate a prepared split"
                )
            targeted = [index for index in range(len(source)) if source.document(index).loss_tokens]
            without_target += len(source) - len(targeted)
            for start in range(0, len(targeted), _BATCH):
                prompts, unreadable = _prompts(source, targeted[start : start + _BATCH])
                bad += unreadable
                for index, ids in zip(prompts, self._write(list(prompts.values())), strict=True):
                    truth = source.text(index).labels
                    rows.append(Prediction(index, self._text(truth[truth >= 0]), self._text(ids)))
        return Predictions(tuple(rows), without_target, len(bad), bad[0] if bad else "")

    def describe(self, image: Path, prompt: str) -> str:
        """The text that follows an image file and a prompt; raises DataError for a file that is no image.

        Of several encoders of images the one sees it that reads prepared images.
        """
        takers = [taker for taker in item_settings(self.config).values() if isinstance(taker, ItemSettings)]
        if not takers:
            raise DataError(f"{self.folder}: its model takes no images; leave --image out or choose another run")
        try:
            data = image.read_bytes()
        except OSError as error:
            raise DataError(f"--image {image}: cannot be read ({error.strerror}); give a PNG or JPEG file") from None
        settings = next((taker for taker in takers if taker.mark == MARKS[IMAGE]), takers[0])
        try:
            extent = image_size(data)
            payload = settings.read([data], extent)
        except DataError as error:
            raise DataError(f"--image {image}: {error}") from None
        ids = [ITEM_ROW] * settings.place(extent).rows + self.tokenizer.start + self.tokenizer.encode(prompt)
        (written,) = self._write([Prompt(np.array(ids, dtype=np.int64), ((settings.module, 0, payload),))])
        return self.tokenizer.decode(written)

    def _write(self, prompts: list[Prompt]) -> list[list[int]]:
        return greedy(self.model, prompts, self.tokenizer.eos, _MOST_TOKENS)

    def _text(self, ids: "np.ndarray | list[int]") -> str:
        return self.tokenizer.decode([int(i) for i in ids if i != self.tokenizer.eos])


def evaluate_run(run: TrainedRun, name: str | None = None) -> dict[str, Predictions]:
    """Predictions per evaluation split (all of the config's unless named), written to `evaluation.json` of the run."""
    corpus = open_corpus(run.config, run.tokenizer, run.tokenizer.vocabulary)
    names = [split.name for split in corpus.evaluation]
    chosen = [split for split in corpus.evaluation if name in (None, split.name)]
    if not chosen:
        raise DataError(f"--split: got {name!r}, expected one of the run's evaluation splits {', '.join(names)}")
    predictions = {split.name: run.predict(split) for split in chosen}
    record = {
        "step": run.step,
        "splits": {split: [asdict(row) for row in found.rows] for split, found in predictions.items()},
        "left_out": {split: found.left_out for split, found in predictions.items() if found.left_out},
    }
    _write_record(run.folder / "evaluation.json", record)
    return predictions


def _write_record(file: Path, record: dict[str, Any]) -> None:
    try:
        file.write_text(json.dumps(record, indent=1))
    except OSError as error:
        raise DataError(
            f"{file}: cannot be written ({error.strerror}), expected a writable run folder; change its permissions"
        ) from None


def _prompts(source: PreparedSource, indices: Sequence[int]) -> tuple[dict[int, Prompt], list[str]]:
    """Prompts by document, and what is wrong with the documents whose items cannot be read."""
    prompts: dict[int, Prompt] = {}
    unreadable = []
    for index in indices:
        try:
            prompts[index] = _prompt(source, index)
        except DataError as error:
            unreadable.append(f"document {index}: {error}")
    return prompts, unreadable


def _prompt(source: PreparedSource, index: int) -> Prompt:
    """All rows before the first loss token of a document that has one; raises DataError for a bad item."""
    text, document = source.text(index), source.document(index)
    (labelled,) = np.nonzero(text.labels >= 0)
    rows = int(labelled[0]) + 1
    items = tuple(
        (item.module, item.position, source.item(index, which))
        for which, item in enumerate(document.items)
        if item.position < rows
    )
    return Prompt(text.ids[:rows], items)
