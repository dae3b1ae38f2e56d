"""The commands. Each one imports what it needs when it runs, so that `plan` starts without torch."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from counterpoint import prepare_flags as flags
from counterpoint.argument import command_line
from counterpoint.console import console
from counterpoint.errors import CounterpointError, DamagedCheckpointError, DifferenceError, InputError
from counterpoint.garbage import leave_at_exit
from counterpoint.report.data_commands import data
from counterpoint.report.search_options import search

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data, name="data")


def _complete_key(begun: str) -> list[str]:
    """How a key on the command line may go on, for the shell."""
    from counterpoint.reference.explain_key import completions

    return completions(begun)


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys to change, later ones win.", autocompletion=_complete_key),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]

_INTERRUPTED = 130

_output = console()


def main() -> None:
    """Entry point: runs a command and leaves with the exit code of what ended it."""
    try:
        with command_line():
            code = app(standalone_mode=False)
        # Ctrl-C inside a command, and the end that a command chose, come back as the code to leave with.
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except CounterpointError as error:
        _leave(str(error), error.exit_code)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _leave("interrupted", _INTERRUPTED)
    except Exception as error:
        # The base of typer's usage errors is click's, which newer versions of typer carry inside.
        if type(error).__module__.startswith(("click.", "typer.")):
            hint = _megatron_hint(sys.argv[1:])
            if hint is not None:
                _leave(hint, InputError.exit_code)
            message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
            _leave(f"{message.rstrip('.')}; counterpoint --help lists the commands, COMMAND --help its arguments", 2)
        raise


def _leave(message: str, code: int) -> None:
    console(stderr=True).print(f"error: {message}")
    sys.exit(code)


def _say_note(note: str | None) -> None:
    """Write on stderr what is no part of a command's answer."""
    if note is not None:
        console(stderr=True).print(f"note: {note}")


def _megatron_hint(arguments: list[str]) -> str | None:
    """What to write instead of the first argument that is an option of Megatron's."""
    from counterpoint.config.megatron import megatron_hint

    hints = (megatron_hint(argument) for argument in arguments if argument.startswith("--"))
    return next((hint for hint in hints if hint is not None), None)


def _refuse_without(option: str, others: dict[str, int | None]) -> None:
    """Raise InputError for options that mean nothing without `option`."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(f"{' and '.join(given)}: got no {option}, expected it beside; add {option} or leave them out")


def _print_version(wanted: bool) -> None:
    if wanted:
        from counterpoint.environment import version

        _output.print(f"counterpoint {version()}")
        raise typer.Exit


@app.callback()
def counterpoint(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train multimodal models in which every module has its own parallel layout on its own ranks."""


@app.command()
def prepare(
    source: flags.Source,
    out: flags.Out,
    tokenizer: flags.Tokenizer = None,
    chat: flags.Chat = None,
    train_on: flags.TrainOn = "assistant",
    date: flags.Date = None,
    seed: flags.Seed = 0,
    images: flags.Images = None,
    where: flags.Where = None,
    map_: flags.Map = None,
    subset: flags.Subset = None,
    addresses: flags.Addresses = None,
    max_pixels: flags.MaxPixels = None,
    workers: flags.Workers = None,
    on_error: flags.OnError = "fail",
    most_missing: flags.MostMissing = None,
    copy: flags.Copy = False,
    fps: flags.Fps = 2.0,
    max_frames: flags.MaxFrames = 768,
    timestamps: flags.Timestamps = None,
) -> None:
    """Index a dataset once: tokens, sizes and positions of images, videos and clips, and where the bytes are."""
    from counterpoint.data.prepare.command import prepare as build
    from counterpoint.data.prepare.options import PrepareOptions
    from counterpoint.data.prepare.progress import ProgressBar
    from counterpoint.modalities.images.spec import MOST_PIXELS

    options = PrepareOptions(
        tokenizer=tokenizer, seed=seed, images=tuple(images or ()), most_pixels=max_pixels or MOST_PIXELS,
        chat=chat, train_on=train_on, date=date,
        workers=workers, on_error=on_error, most_missing=most_missing, copy=copy,
        addresses=addresses, where=where, maps=tuple(map_ or ()), subsets=tuple(subset or ()),
        fps=fps, max_frames=max_frames, timestamps=timestamps,
    )  # fmt: skip
    with ProgressBar() as bar:
        summary = build(source, out, options, bar.watch)
    for line in summary.lines:
        _output.print(line)


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A Hugging Face folder, or its config.json alone.")],
    out: Annotated[Path | None, typer.Option(help="The YAML file to write; without it, standard output.")] = None,
    world_size: Annotated[int, typer.Option(min=1, max=100_000, help="Ranks of the run.")] = 1,
    memory: Annotated[float, typer.Option(help="Memory of a rank in GiB, which the layout is for.")] = 80.0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the config of a whole run from a Hugging Face folder: modules, layouts, items, warm starts."""
    from counterpoint.importing.command import import_model

    if out is not None and out.exists() and not force:
        raise InputError(f"{out}: already exists, expected a new file; choose another, or add --force")
    imported = import_model(folder, world_size=world_size, memory_gib=memory)
    # What is piped to a file is the config alone.
    said = _output if out is not None else console(stderr=True)
    if out is None:
        sys.stdout.write(imported.text)
    else:
        imported.write(out, force=force)
    for line in imported.summary:
        said.print(line, markup=False, soft_wrap=True)
    if out is not None:
        following = f"counterpoint train {out}" if imported.is_whole else f"add {out} to a run"
        _output.print(f"{out}: written; next: {following}", markup=False, soft_wrap=True)


@app.command()
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    html: Annotated[Path | None, typer.Option(help="Write the plan as a page.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the plan as data.")] = None,
    rank: Annotated[int | None, typer.Option(help="Show one rank's part.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the part of --rank without memory: its exact bytes and groups.")
    ] = False,
    hardware: Annotated[
        str | None, typer.Option(help="Estimate a step on it: H100, H200, A100, B200, or a file of calibrate.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write the estimated step for Perfetto.")] = None,
) -> None:
    """Show and prove who does what when, before anything runs."""
    leave_at_exit()
    if dry_run:
        from counterpoint.report.answer import refuse_beside
        from counterpoint.report.dry_run_command import show_dry_run

        if rank is None:
            raise InputError("--dry-run: got no --rank, expected the rank to build beside it; add --rank")
        refuse_beside("--dry-run", {"--html": html, "--hardware": hardware, "--trace": trace})
        show_dry_run(config, overrides or (), json_file=json, rank=rank, console=_output)
        return
    from counterpoint.report.plan_command import show_plan

    show_plan(
        config, overrides or (), html=html, json_file=json, rank=rank, hardware=hardware, trace=trace, console=_output
    )


app.command()(search)


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Rendezvous port of local ranks; 0 is any free one.")] = 0,
) -> None:
    """Train; starts local ranks, or joins those of torchrun or Slurm."""
    from counterpoint.config.load import load_config
    from counterpoint.run import train as run
    from counterpoint.setup.run_folder import check_place

    loaded = load_config(config, overrides or ())
    check_place(loaded, config, overrides or ())
    run(loaded, port=port)


@app.command()
def verify(
    config: ConfigFile,
    overrides: Overrides = None,
    random: Annotated[int | None, typer.Option(min=1, help="Draw this many layouts of the config's models.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the drawing, 0 unless given.")] = None,
    world_size: Annotated[int | None, typer.Option(min=1, help="Largest world drawn.")] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    case: Annotated[int | None, typer.Option(min=0, help="Run only this case of the drawing.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results as data.")] = None,
) -> None:
    """Show that training on a layout equals training in one plain process."""
    from counterpoint.verify.command import verify_config, verify_random

    if random is None:
        _refuse_without("--random", {"--seed": seed, "--world-size": world_size, "--case": case})
        holds = verify_config(config, overrides or (), dtype, json, _output)
    else:
        holds = verify_random(
            config, overrides or (), random, 0 if seed is None else seed, world_size, dtype, case, json, _output
        )
    if not holds:
        raise DifferenceError("the layouts above differ from one plain process")


MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer; what no truth exceeds unless given.")
]
Temperature = Annotated[float, typer.Option(help="0 writes the likeliest token, more draws by probability.")]
TopP = Annotated[float, typer.Option(help="Draw among the likeliest tokens that together have this probability.")]
SamplingSeed = Annotated[int, typer.Option(help="Seed of the draws.")]


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="One evaluation split; all unless given.")] = None,
    step: Annotated[int | None, typer.Option(help="The checkpoint's step; the newest unless given.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: SamplingSeed = 0,
) -> None:
    """Write every answer of held-out samples given all before it, refresh the report and print the exact matches."""
    from counterpoint.inference.evaluate import TrainedRun, Writing, evaluate_run
    from counterpoint.inference.sampling import Sampling
    from counterpoint.report.training import write_report

    writing = Writing(max_tokens, Sampling(temperature, top_p, seed))
    trained = TrainedRun.open(run, step)
    _say_note(trained.note)
    splits = evaluate_run(trained, split, writing).splits
    _output.print(f"report: {write_report(run, trained.plan)}")
    for name, found in splits.items():
        place = f" ({name})" if len(splits) > 1 else ""
        if found.left_out:
            _output.print(f"left out{place}: {found.left_out}")
        if found.too_long:
            _output.print(f"never exact{place}: {found.too_long} truths are longer than --max-tokens")
        _output.print(f"exact match{place}: {100 * found.exact:.1f} %")


@app.command()
def generate(
    run: RunFolder,
    image: Annotated[list[Path] | None, typer.Option(help="A PNG or JPEG file; repeatable.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What is asked, with <image> where images stand; repeatable, turn by turn.")
    ] = None,
    system: Annotated[str, typer.Option(help="A first turn of the system.")] = "",
    step: Annotated[int | None, typer.Option(help="The checkpoint's step; the newest unless given.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: SamplingSeed = 0,
    format: Annotated[str | None, typer.Option(help="How turns are laid out; as in training unless given.")] = None,
) -> None:
    """Write what the trained model answers to pictures and turns of yours, laid out as in training."""
    from counterpoint.inference.evaluate import TrainedRun, Writing
    from counterpoint.inference.prompts import user_turns
    from counterpoint.inference.sampling import Sampling

    writing = Writing(max_tokens, Sampling(temperature, top_p, seed))
    trained = TrainedRun.open(run, step)
    _say_note(trained.note)
    for answer in trained.converse(user_turns(image or (), prompt or [""], system), writing, format):
        _output.print(answer)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to create.")],
    step: Annotated[int | None, typer.Option(help="The checkpoint's step; the newest unless given.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float64, float32, float16 or bfloat16; that of each tensor of the base unless given."),
    ] = None,
    module: Annotated[str | None, typer.Option(help="Export this module alone.")] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="The folder whose names and other tensors it has; the one that the run began with."),
    ] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Local processes; one for each GB unless given.")] = None,
) -> None:
    """Write a checkpoint as a folder that transformers loads, proved to be whole before a byte is written."""
    from counterpoint.report.words import bytes_text
    from counterpoint.setup.export import ExportRequest
    from counterpoint.setup.exporting import export_run

    request = ExportRequest(run=run, out=out, step=step, dtype=dtype, module=module, base=base)
    found = export_run(request, ranks)
    if not found.is_leader:
        return
    carried = f", {found.carried} carried over from {found.base}" if found.carried else ""
    _output.print(f"{out}: {found.written} tensors of step {found.step}{carried}, {bytes_text(found.size_bytes)}")
    if found.left_out:
        _output.print(f"left out: {', '.join(found.left_out)}")


@app.command()
def report(
    run: RunFolder,
    explain: Annotated[bool, typer.Option("--explain", help="Say in words what held the run back.")] = False,
    hardware: Annotated[
        str | None, typer.Option(help="Predict the timed step on it: a shipped name, or a file of calibrate.")
    ] = None,
) -> None:
    """Write the HTML report of a run, and say what its last recorded step was."""
    from counterpoint.report.predicted import explanation
    from counterpoint.report.run_text import last_step_lines
    from counterpoint.report.training import write_report

    _output.print(f"report: {write_report(run, hardware=hardware)}")
    for line in last_step_lines(run):
        _output.print(line)
    if explain:
        for line in explanation(run, hardware):
            _output.print(f"- {line}", markup=False)


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A run, a checkpoint, a Hugging Face folder or a checkpoint of Megatron.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print it as data, with every tensor.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read everything and compare it with its digests.")] = False,
) -> None:
    """Show what lies in a folder: modules, parameters, sizes, step, health, and what a module can start from."""
    from counterpoint.inspection.inspect import inspect as look

    found = look(path, verify=verify)
    if json:
        from json import dumps

        _output.print(dumps(found.as_json(), indent=1))
    else:
        from counterpoint.report.inspection_text import inspection_text

        for line in inspection_text(found):
            _output.print(line)
    if found.problems:
        raise DamagedCheckpointError(f"{path}: {len(found.problems)} things in it are damaged or missing, see above")


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="A folder as for inspect.")],
    b: Annotated[Path, typer.Argument(help="Another, of the same kind or not.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as data, with every tensor that differs.")] = False,
) -> None:
    """Compare the tensors of two folders; ends with 0 if they are equal, with 1 if not."""
    from counterpoint.inspection.difference import diff as compare

    found = compare(a, b)
    if json:
        from json import dumps

        _output.print(dumps(found.as_json(), indent=1))
    else:
        from counterpoint.report.inspection_text import difference_text

        for line in difference_text(found):
            _output.print(line)
    if not found.is_equal:
        raise typer.Exit(1)


Plugins = Annotated[
    list[str] | None, typer.Option(help="A distribution whose kinds count, as in run.plugins; repeatable.")
]


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(help="As a config names it: modules.language.model.kv_heads.", autocompletion=_complete_key),
    ] = "",
    kind: Annotated[str | None, typer.Option(help="Of sections of several kinds show this one.")] = None,
    plugin: Plugins = None,
) -> None:
    """Say what a key of the config means, or which keys a section has."""
    from counterpoint.plugins.load import load_plugins
    from counterpoint.reference.explain_key import explain_key

    load_plugins(plugin or (), "--plugin")
    _output.print(explain_key(key, kind))


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page of Markdown: docs/config.md.")] = False,
    plugin: Plugins = None,
) -> None:
    """Print the JSON Schema of the config, by which editors complete and check YAML."""
    from counterpoint.plugins.load import load_plugins

    load_plugins(plugin or (), "--plugin")
    if markdown:
        from counterpoint.reference.markdown import markdown as page

        _output.print(page())
    else:
        from json import dumps

        from counterpoint.reference.json_schema import json_schema

        _output.print(dumps(json_schema(), indent=2))


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("hardware.json"),
    device: Annotated[str | None, typer.Option(help="cuda or cpu; cuda if there is a GPU.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, max=1024, help="Ranks at work; one a GPU, or a core.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes and rough figures, in seconds.")] = False,
    fill_from: Annotated[
        str | None, typer.Option(help="Hardware, by name or file, for peaks and all that this machine cannot show.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Measure what operations cost on this machine, for the clock of plan and search."""
    from counterpoint.calibrate.command import calibrate as measure
    from counterpoint.calibrate.words import lines_of

    found = measure(out, device, ranks, quick=quick, fill_from=fill_from, force=force)
    if found is None:
        return
    for line in lines_of(found):
        _output.print(line)
    _output.print(f"{out}: written; next: counterpoint plan CONFIG --hardware {out}")


@app.command()
def env() -> None:
    """Show versions, devices and collectives, as a bug report needs them."""
    from counterpoint.environment import describe_environment

    _output.print(describe_environment())


if __name__ == "__main__":
    main()
