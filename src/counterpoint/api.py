"""What a Python program calls: the commands as typed functions, and what they return."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.argument import argument
from counterpoint.config.load import Source, load_config, read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import Config
from counterpoint.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from counterpoint.costs.hardware import Hardware
    from counterpoint.importing.command import ImportedModel
    from counterpoint.inference.predictions import Evaluation
    from counterpoint.inspection.data_info import DataInfo
    from counterpoint.inspection.data_lint import Lint
    from counterpoint.inspection.difference import Difference
    from counterpoint.inspection.inspect import Inspection
    from counterpoint.report.run_record import Metrics
    from counterpoint.search.find import SearchResult
    from counterpoint.setup.exporting import Exported
    from counterpoint.train.callbacks import Callback
    from counterpoint.verify.case import CaseResult


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a training; each property reads its files again."""

    folder: Path

    @property
    def config(self) -> Config:
        """Its config with every key; raises ConfigError for one that cannot be read.

        Nothing is imported for it: a section of a kind that a plug-in brings stands as it is until that is loaded.
        """
        return read_run_config(self.folder / CONFIG_FILE)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The steps of its checkpoints, ascending."""
        from counterpoint.train.state.checkpoint import list_checkpoints

        return tuple(list_checkpoints(self.folder))

    @property
    def metrics(self) -> "Metrics":
        """What its logged steps and evaluations recorded, by step."""
        from counterpoint.report.run_record import NO_METRICS, read_metrics

        return read_metrics(self.folder) or NO_METRICS

    @property
    def losses(self) -> dict[int, float]:
        """The training loss of each logged step."""
        return {record.step: record.loss for record in self.metrics.steps}

    @property
    def evaluation(self) -> "Evaluation | None":
        """What the model wrote when the run was evaluated last; None before."""
        from counterpoint.inference.predictions import Evaluation

        return Evaluation.read(self.folder)


def train(source: Source, overrides: Sequence[str] = (), *, callbacks: "Sequence[Callback]" = (), port: int = 0) -> Run:
    """Train a config to its end, or until a callback asks to stop, and return what its run folder holds then.

    Starts `world.size` local ranks, with a rendezvous at `port` (0: any that is free), or is one rank of those that
    torchrun or Slurm started. `overrides` are `key=value`, as on the command line; `callbacks` hear of steps,
    evaluations and checkpoints on every rank. A script that starts local ranks calls this under
    `if __name__ == "__main__":`, since ranks import it. Raises InputError, before any rank exists, for all that is
    wrong with the input, and CounterpointError for what ends the run.
    """
    _check_number("port", port, 0, 65535)
    from counterpoint.run import train as run

    config = load_config(source, overrides)
    run(config, callbacks, port)
    return Run(Path(config.run.dir))


def verify(source: Source, overrides: Sequence[str] = (), *, dtype: str = "float64") -> "CaseResult":
    """Train two steps of a config on its own ranks and in one plain process, and compare both.

    The result `holds` if they are equal. `dtype`, float64 or float32, is that of parameters, computation and sums.
    Raises InputError.
    """
    from counterpoint.verify.command import verify as compare

    return compare(load_config(source, overrides), dtype)


def evaluate(
    run: str | Path | Run,
    *,
    split: str | None = None,
    step: int | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> "Evaluation":
    """Write every answer of a run's held-out samples, compare it with the truth, and keep both in the run folder.

    All evaluation splits unless one is named; the checkpoint of `step`, the newest unless given. An answer has at most
    `max_tokens` tokens (None: one more than the longest truth). At `temperature` 0 each token is the likeliest, else it
    is drawn, by `seed`, among the likeliest that together have a probability of `top_p`. Raises CheckpointError or
    DataError.
    """
    _check_number("max_tokens", max_tokens, 1)
    from counterpoint.inference.evaluate import TrainedRun, Writing, evaluate_run
    from counterpoint.inference.sampling import Sampling

    writing = Writing(max_tokens, Sampling(temperature, top_p, seed))
    return evaluate_run(TrainedRun.open(_folder(run), step), split, writing)


def generate(
    run: str | Path | Run,
    prompts: str | Sequence[str] = "",
    *,
    images: Sequence[str | Path] = (),
    system: str = "",
    step: int | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    format: str | None = None,
) -> list[str]:
    """The answers of a trained model to the turns of a user, each given all turns and answers before it.

    `images` are files in the order of the marks `<image>` in the prompts; without marks they stand before the first.
    `format` says how turns are laid out, as in training unless given; the rest is as in `evaluate`. Raises
    CheckpointError or DataError.
    """
    _check_number("max_tokens", max_tokens, 1)
    from counterpoint.inference.evaluate import TrainedRun, Writing
    from counterpoint.inference.prompts import user_turns
    from counterpoint.inference.sampling import Sampling

    writing = Writing(max_tokens, Sampling(temperature, top_p, seed))
    turns = user_turns([Path(image) for image in images], [prompts] if isinstance(prompts, str) else prompts, system)
    return list(TrainedRun.open(_folder(run), step).converse(turns, writing, format))


def import_model(folder: str | Path, *, world_size: int = 1, memory_gib: float = 80.0) -> "ImportedModel":
    """The config of a whole run, as YAML `text`, of the model in a Hugging Face folder or in a config.json alone.

    It is for `world_size` ranks, each with `memory_gib` of memory, and is loaded, planned and proved; names and shapes
    of tensors are compared with the folder's. Nothing in the folder is executed. Raises InputError.
    """
    _check_number("world_size", world_size, 1, 100_000)
    from counterpoint.importing.command import import_model as read

    return read(folder, world_size=world_size, memory_gib=memory_gib)


def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    module: str | None = None,
    base: str | Path | None = None,
    ranks: int | None = None,
) -> "Exported":
    """Write a run's checkpoint as a folder that transformers loads, and return what was written.

    The checkpoint of `step`, the newest unless given; all modules, or one; tensors as `dtype`, or as the base folder
    has them. `base` is the folder whose names and other tensors the new one has, by default the one that the run began
    with. Starts `ranks` local processes (None: one for each GB), or is one of those that torchrun or Slurm started.
    Raises InputError before anything is written, RunError for what ends the writing.
    """
    _check_number("ranks", ranks, 1)
    from counterpoint.setup.export import ExportRequest
    from counterpoint.setup.exporting import export_run

    given = None if base is None else Path(base)
    request = ExportRequest(run=_folder(run), out=Path(out), step=step, dtype=dtype, module=module, base=given)
    return export_run(request, ranks)


def search(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    world_size: int | None = None,
    hardware: str = "H200",
    memory_gib: float | None = None,
    top: int = 5,
    fixed: Sequence[str] = (),
    schedules: Sequence[str] = (),
    steps: int = 2,
    simulations: int | None = None,
) -> "SearchResult":
    """The fastest layouts of a config's models on `world_size` ranks (None: the config's) of a machine, as the clock
    plays them on drawn `steps` of its data; the first one's plan is proved.

    `hardware` is a shipped name or a file of `calibrate`; `memory_gib` is a rank's (None: the hardware's). Keys that
    `overrides` set, or that fit a pattern of `fixed`, stay as they are; `schedules` are the kinds that may be chosen
    (all if empty). No layout that a bound excludes is among the `top` fastest; at most `simulations` are played.
    Raises InputError if nothing fits.
    """
    for name, given in {"world_size": world_size, "top": top, "steps": steps, "simulations": simulations}.items():
        _check_number(name, given, 1)
    from counterpoint.search.find import Wish, find

    wish = Wish(
        world_size=world_size, hardware=hardware, memory_gib=memory_gib, top=top, fixed=tuple(fixed),
        schedules=tuple(schedules), steps=steps, simulations=simulations,
    )  # fmt: skip
    return find(load_config(source, overrides), overrides, wish)


def inspect(path: str | Path, *, verify: bool = False) -> "Inspection":
    """What lies in a run, a checkpoint, a Hugging Face folder or a torch.distributed.checkpoint, from headers alone.

    Its `problems` are all that is damaged or missing; with `verify` all bytes are compared with their digests. No
    plug-in is imported. Raises CheckpointError for another folder, or one whose headers cannot be read.
    """
    from counterpoint.inspection.inspect import inspect as look

    return look(Path(path), verify=verify)


def diff(a: str | Path, b: str | Path) -> "Difference":
    """Compare the tensors of two folders, which `inspect` could read, piece by piece: names, shapes, dtypes, values.

    Folders of different kinds are compared by the names that tensors have here. Raises CheckpointError.
    """
    from counterpoint.inspection.difference import diff as compare

    return compare(Path(a), Path(b))


def calibrate(
    out: str | Path,
    *,
    device: str | None = None,
    ranks: int | None = None,
    quick: bool = False,
    fill_from: str | None = None,
    force: bool = False,
) -> "Hardware | None":
    """Measure what operations cost on this machine, into the file `out`, and return what it says.

    Starts `ranks` local processes (None: one for each GPU or core), all at work at once, or is one of those that
    torchrun or Slurm started, of which the first returns it. `device` is cuda or cpu (None: cuda if there is a GPU);
    `quick` figures are rough; gaps and published peaks are taken from the hardware `fill_from`, a name or a file.
    Raises InputError before anything is measured; what ends it later leaves a file with what was measured until then.
    """
    _check_number("ranks", ranks, 1, 1024)
    from counterpoint.calibrate.command import calibrate as measure

    return measure(Path(out), device, ranks, quick=quick, fill_from=fill_from, force=force)


def data_info(
    folder: str | Path, *, config: str | Path | None = None, sequence_tokens: int | None = None
) -> "DataInfo":
    """What lies in a folder that `prepare` wrote: documents, tokens, items, files, from the columns of its index.

    `fit` says how documents fit into a sequence: of a run's `config`, or, of text alone, of `sequence_tokens`. Raises
    DataError or ConfigError.
    """
    _check_number("sequence_tokens", sequence_tokens, 1)
    from counterpoint.inspection.data_info import data_info as look

    return look(Path(folder), None if config is None else Path(config), sequence_tokens)


def data_lint(
    folder: str | Path,
    *,
    sample: int | None = None,
    config: str | Path | None = None,
    sequence_tokens: int | None = None,
) -> "Lint":
    """What is wrong with the documents of a folder that `prepare` wrote: reads all, or `sample` evenly spaced ones.

    Documents are too long if they have more rows than a sequence of the run's `config`, or more tokens than
    `sequence_tokens`. Raises DataError or ConfigError.
    """
    _check_number("sample", sample, 1)
    _check_number("sequence_tokens", sequence_tokens, 1)
    from counterpoint.inspection.data_lint import lint

    return lint(Path(folder), sample, None if config is None else Path(config), sequence_tokens)


def data_preview(
    folder: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    samples: int = 20,
    seed: int = 0,
    split: str | None = None,
) -> Path:
    """Write a page of `samples` documents of a split, drawn by `seed`: tokens, the loss mask, and items.

    Items are drawn as the modules of the run's `config` read them, or as they are stored. Raises DataError or
    ConfigError.
    """
    _check_number("samples", samples, 1, 500)
    _check_number("seed", seed, 0)
    from counterpoint.report.data_preview import write_preview

    seen_by = None if config is None else Path(config)
    write_preview(Path(folder), Path(out), config=seen_by, samples=samples, seed=seed, split=split)
    return Path(out)


def open_run(folder: str | Path) -> Run:
    """A run folder for reading, without its model; raises CheckpointError if it is none."""
    if not (Path(folder) / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder}: no config.yaml, expected a run folder; give the run.dir of a training")
    return Run(Path(folder))


def _folder(run: str | Path | Run) -> Path:
    return Path(run) if isinstance(run, str | Path) else run.folder


def _check_number(name: str, given: int | None, least: int, most: int | None = None) -> None:
    """Raise InputError for an argument that is not from `least` to `most` (None: of any size), as the option of the
    command must be; None was left out."""
    if given is None or (least <= given and (most is None or given <= most)):
        return
    expected = f"{least} or more" if most is None else f"{least} to {most}"
    raise InputError(f"{argument(name)}: got {given}, expected {expected}; correct it")
