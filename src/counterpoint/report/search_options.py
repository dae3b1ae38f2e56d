"""The arguments of `counterpoint search`. It imports what it needs when it runs, so that help comes at once."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.console import console
from counterpoint.errors import InputError
from counterpoint.garbage import leave_at_exit, rare


@rare()
def search(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Keys to change and to hold; with --explain first the other config."
        ),
    ] = None,
    world_size: Annotated[int | None, typer.Option(min=1, help="Ranks; those of the config unless given.")] = None,
    hardware: Annotated[str, typer.Option(help="A shipped name or a file of counterpoint calibrate.")] = "H200",
    memory: Annotated[float | None, typer.Option(help="Memory of a rank in GiB; the hardware's unless given.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Layouts to show; 5 unless given.")] = None,
    fix: Annotated[
        list[str] | None, typer.Option(help="A key, or pattern of keys, that stays as the config has it; repeatable.")
    ] = None,
    schedule: Annotated[
        list[str] | None, typer.Option(help="A kind of schedules that may be chosen; repeatable. All unless given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the data that are drawn for their sizes.")] = 2,
    simulations: Annotated[int | None, typer.Option(min=1, help="Most candidates that are simulated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the fastest layout as a config.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write what was found as data.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Compare two configs instead: search --explain A.yaml B.yaml.")
    ] = False,
) -> None:
    """Find the fastest layout, schedule and recomputation for a number of ranks, before anything runs."""
    leave_at_exit()
    from counterpoint.report.answer import refuse_beside
    from counterpoint.report.search_command import show_comparison, show_search
    from counterpoint.search.find import TOP, Wish

    if explain:
        other, *rest = overrides or [""]
        if not other or "=" in other:
            raise InputError("--explain: got one config, expected two; write search --explain A.yaml B.yaml")
        refuse_beside("--explain", {
            "--world-size": world_size, "--memory": memory, "--top": top, "--fix": fix, "--schedule": schedule,
            "--simulations": simulations, "--out": out, "--json": json,
        })  # fmt: skip
        show_comparison(config, Path(other), rest, hardware, steps, console())
        return
    wish = Wish(
        world_size=world_size, hardware=hardware, memory_gib=memory, top=top or TOP, fixed=tuple(fix or ()),
        schedules=tuple(schedule or ()), steps=steps, simulations=simulations,
    )  # fmt: skip
    show_search(config, overrides or (), wish, out=out, json=json, console=console())
