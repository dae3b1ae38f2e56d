"""`evaluate` and `generate`: a trained run's answers for held-out samples and for a user's pictures."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from counterpoint.argument import argument
from counterpoint.config.data import DataConfig, evaluation_names
from counterpoint.config.load import load_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.data.text.chat import (
    ASSISTANT,
    USER,
    ChatFormat,
    Medium,
    Message,
    PlainChat,
)
from counterpoint.data.text.formats import FORMATS, chat_format, dataset_format, named_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import CheckpointError, DataError
from counterpoint.inference.plain import PlainModel, Prompt, write
from counterpoint.inference.predictions import Evaluation, Prediction, Predictions
from counterpoint.inference.prompts import Answer, answers_of, laid_prompt, prompt_before
from counterpoint.inference.sampling import GREEDY, Sampling
from counterpoint.kinds.modality import Intake, Intakes
from counterpoint.modalities.images.spec import IMAGES
from counterpoint.plan.plan import Plan
from counterpoint.setup.data import intakes_of, open_tokenizer
from counterpoint.setup.plan import models_of, plan_of
from counterpoint.sources.entry import Opening, taken_of
from counterpoint.sources.payload import TextPayload
from counterpoint.sources.source import Source
from counterpoint.train.state.checkpoint import checkpoint_folder, list_checkpoints, unverified

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written: at most `max_tokens` tokens each, None for as many as an answer can need."""

    max_tokens: int | None = None
    sampling: Sampling = GREEDY


DEFAULT = Writing()


@dataclass(frozen=True)
class TrainedRun:
    """A run folder opened for reading: its data, how items enter modules, tokenizer, plan, and a plain model at one
    step."""

    folder: Path
    data: DataConfig
    intakes: Intakes
    tokenizer: Tokenizer
    plan: Plan
    model: PlainModel
    step: int

    @property
    def note(self) -> str | None:
        """A remark about the checkpoint for the user, if there is one."""
        return unverified(checkpoint_folder(self.folder, self.step))

    @classmethod
    def open(cls, folder: Path, step: int | None = None, device: str = "cpu") -> "TrainedRun":
        """Open a run at a step (the newest unless given); raises CheckpointError or DataError."""
        config_file = folder / CONFIG_FILE
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
        models = models_of(config, tokenizer.vocabulary)
        plan, intakes = plan_of(config, models), intakes_of(config)
        checkpoint = checkpoint_folder(folder, chosen)
        model = PlainModel.load(plan, models, intakes, checkpoint, torch.device(device))
        return cls(folder, config.data, intakes, tokenizer, plan, model, chosen)

    def _open(self, split: str) -> tuple[Source, int]:
        """The source of a split, and how many of its documents are taken."""
        entry = self.data.evaluation[evaluation_names(self.data.evaluation).index(split)]
        tokenizer = self.tokenizer
        file = None if self.data.tokenizer is None else Path(self.data.tokenizer)
        opening = Opening(
            self.intakes, self.data.sequence_tokens, tokenizer.vocabulary, tokenizer.digest, tokenizer=file
        )
        source = entry.open(0, opening.of(entry))
        return source, taken_of(entry, source)

    def predict(self, split: str, writing: Writing) -> Predictions:
        """What the model writes for every answer of a prepared split, given all rows before it in its document.

        Documents without a loss token, or with an unreadable item, are left out. For a true answer without an end
        token, such as one that is cut off, as many tokens are written as it has.
        """
        source, taken = self._open(split)
        if source.index is None:
            raise DataError(f"evaluation split {split}: synthetic documents have no text; evaluate a prepared split")
        ends = chat_format(source.index, self.tokenizer).ends
        answers = {index: self._answers(source.text(index), ends) for index in range(taken)}
        judged = [(index, number) for index, found in answers.items() for number in range(len(found))]
        longest = max((answers[index][number].tokens for index, number in judged), default=0)
        limit = longest + 1 if writing.max_tokens is None else writing.max_tokens
        rows: list[Prediction] = []
        unreadable: dict[int, str] = {}
        for start in range(0, len(judged), _BATCH):
            prompts: dict[tuple[int, int], Prompt] = {}
            for index, number in judged[start : start + _BATCH]:
                try:
                    prompts[index, number] = prompt_before(source, index, answers[index][number])
                except DataError as error:
                    unreadable.setdefault(index, f"document {index}: {error}")
            asked = [answers[index][number] for index, number in prompts]
            most = [limit if answer.is_ended else min(limit, answer.tokens) for answer in asked]
            written = write(self.model, list(prompts.values()), ends, most, writing.sampling, list(prompts))
            for (index, number), answer, ids in zip(prompts, asked, written, strict=True):
                truth = source.text(index).ids[answer.start : answer.start + answer.tokens]
                rows.append(Prediction(index, self.tokenizer.decode(truth), self.tokenizer.decode(ids), number))
        return Predictions(
            tuple(rows),
            without_target=sum(not found for found in answers.values()),
            unreadable=len(unreadable),
            unfit=sum(source.census.left_out.values()),
            too_long=sum(answers[index][number].tokens > limit for index, number in judged),
            why=next(iter(unreadable.values()), ""),
        )

    def _answers(self, text: TextPayload, ends: Collection[int]) -> list[Answer]:
        """The answers of a document; space after the token that ends one, which marks of a template may hold, is
        none."""
        found: list[Answer] = []
        for answer in answers_of(text, ends):
            is_behind = bool(found) and found[-1].stop == answer.start and not answer.is_ended
            if not is_behind or self.tokenizer.decode(text.ids[answer.start : answer.stop]).strip():
                found.append(answer)
        return found

    def converse(self, turns: Sequence[Message], writing: Writing, chat: str | None = None) -> Iterator[str]:
        """The answer to each turn of a user, given all turns and answers before it.

        Rows are laid out as in training, in the format `chat`, by default that of the run's training data. Among
        several image encoders, the one that reads prepared images gets them. Raises DataError for a file that is no
        image.
        """
        layout = self._format(chat)
        intakes = self._intakes() if any(isinstance(part, Medium) for turn in turns for part in turn.parts) else {}
        limit = self.data.sequence_tokens if writing.max_tokens is None else writing.max_tokens
        said: list[Message] = []
        for number, turn in enumerate(turns):
            said.append(turn)
            if turn.role != USER:
                continue
            prompt = laid_prompt(layout.prompt(said), intakes)
            (ids,) = write(self.model, [prompt], layout.ends, [limit], writing.sampling, [(number,)])
            text = self.tokenizer.decode(ids)
            said.append(Message(ASSISTANT, (text,)))
            yield text

    def _format(self, name: str | None) -> ChatFormat:
        """The format of a name, or of the run's prepared training data."""
        if name is not None:
            return named_format(name, self.tokenizer)
        folders = [entry.folder for entry in self.data.train if entry.folder is not None]
        try:
            found: list[ChatFormat] = []
            for form in (dataset_format(folder, self.tokenizer) for folder in folders):
                found += [] if form in found else [form]
        except DataError as error:
            reason = str(error).removesuffix(".")
            raise DataError(
                f"{reason}, or say with {argument('format')} how turns are laid out, {' or '.join(FORMATS)}"
            ) from error
        if len(found) > 1:
            names = sorted({form.name for form in found})
            several = " and ".join(names) if len(names) > 1 else f"{len(found)} different {names[0]}s"
            raise DataError(
                f"{self.folder}: its training data are laid out in several formats, {several}, "
                f"expected one; choose with {argument('format')}"
            )
        return found[0] if found else PlainChat(self.tokenizer)

    def _intakes(self) -> dict[str, Intake]:
        """The module that images go to."""
        able = [intake for intake in self.intakes.values() if intake.kind == IMAGES.name]
        if not able:
            given = argument("images", "--image")
            raise DataError(f"{self.folder}: its model takes no images; leave {given} out or choose another run")
        return {IMAGES.name: next((intake for intake in able if intake.mark == IMAGES.mark), able[0])}


def evaluate_run(run: TrainedRun, name: str | None = None, writing: Writing = DEFAULT) -> Evaluation:
    """Predictions per evaluation split (all of the config's unless named), written to `evaluation.json` of the run."""
    names = evaluation_names(run.data.evaluation)
    chosen = [split for split in names if name in (None, split)]
    if not names:
        raise DataError(
            f"{run.folder}: its config has no data.evaluation, expected splits to judge; add one to the run"
        )
    if not chosen:
        raise DataError(
            f"{argument('split')}: got {name!r}, expected one of the run's evaluation splits {', '.join(names)}"
        )
    found = Evaluation(run.step, {split: run.predict(split, writing) for split in chosen}, asdict(writing))
    found.write(run.folder)
    return found
