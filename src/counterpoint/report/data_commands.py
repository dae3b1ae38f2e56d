"""The commands `data info`, `data lint` and `data preview`; each one imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.console import console
from counterpoint.errors import DifferenceError

_output = console()

data = typer.Typer(rich_markup_mode=None, help="Look at prepared data: info, lint, preview.")

DataFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `prepare` wrote.")]
SeenBy = Annotated[Path | None, typer.Option(metavar="CONFIG", help="The run by whose modules items become rows.")]
SequenceTokens = Annotated[
    int | None, typer.Option(min=1, help="Rows of a sequence; those of --config unless given, else any number.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as data.")]


@data.command("info")
def data_info(
    folder: DataFolder, config: SeenBy = None, sequence_tokens: SequenceTokens = None, json: AsJson = False
) -> None:
    """Show documents, tokens, items, files and the chat format, and how documents fit into a sequence."""
    from counterpoint.inspection.data_info import data_info as look
    from counterpoint.report.data_text import info_text

    found = look(folder, config, sequence_tokens)
    if json:
        _print_json(found.as_json())
    else:
        for line in info_text(found):
            _output.print(line)


@data.command("lint")
def data_lint(
    folder: DataFolder,
    sample: Annotated[int | None, typer.Option(min=1, help="Read this many evenly spaced documents only.")] = None,
    config: SeenBy = None,
    sequence_tokens: SequenceTokens = None,
    json: AsJson = False,
) -> None:
    """Read every document and file and say what is wrong; ends with 0 if nothing is, with 3 otherwise."""
    from counterpoint.inspection.data_lint import lint
    from counterpoint.report.data_text import lint_text

    found = lint(folder, sample, config, sequence_tokens)
    if json:
        _print_json(found.as_json())
    else:
        for line in lint_text(found):
            _output.print(line)
    if not found.is_clean:
        raise typer.Exit(DifferenceError.exit_code)


@data.command("preview")
def data_preview(
    folder: DataFolder,
    config: SeenBy = None,
    samples: Annotated[int, typer.Option(min=1, max=500, help="Documents to draw.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the documents.")] = 0,
    split: Annotated[str | None, typer.Option(help="The split; train unless given, or the first one.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file to write.")] = Path("preview.html"),
) -> None:
    """Write an HTML page of documents: tokens, the loss mask, and items as stored, or as modules see them."""
    from counterpoint.report.data_preview import write_preview

    write_preview(folder, out, config=config, samples=samples, seed=seed, split=split)
    _output.print(f"preview: {out}")


def _print_json(values: object) -> None:
    from json import dumps

    _output.print(dumps(values, indent=1))
