"""The arguments of `counterpoint prepare`, with what its help says of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Source = Annotated[
    str,
    typer.Argument(
        help="`emoji`, a folder of JSON, parquet, Arrow, tars or images, one such file, or hf://datasets/OWNER/NAME."
    ),
]
Out = Annotated[Path, typer.Argument(help="The folder to create.")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="A tokenizer.json, or the folder of one; trained on the data unless given.")
]
Chat = Annotated[
    str | None, typer.Option(help="`template` or `plain`; the template of the tokenizer's folder if that has one.")
]
TrainOn = Annotated[str, typer.Option(help="Which tokens have a loss: `assistant`, `last` (answer) or `all`.")]
Date = Annotated[str | None, typer.Option(help="The day that a chat template may write; 2024-07-26 unless given.")]
Seed = Annotated[int, typer.Option(help="Chooses what `emoji` holds out.")]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        "--media",
        help="A folder, tar or zip that files of records may lie in; repeatable.",
        metavar="ROOT",
    ),
]
Where = Annotated[str | None, typer.Option(help="Takes only rows for which this holds, such as 'relevance_min >= 3'.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="KEY=COLUMN, KEY='text with {COLUMN}', or a YAML file of these; repeatable."),
]
Subset = Annotated[list[str] | None, typer.Option(help="A folder of the source, by its name; repeatable.")]
Addresses = Annotated[
    str | None, typer.Option(help="How files of addresses are called: name, path, md5, sha1 or sha256.")
]
MaxPixels = Annotated[
    int | None, typer.Option(min=1, max=2**30 // 12, help="Pixels of the largest picture that is taken; 2**26.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; one for each core, or one for a small source, unless given.")
]
OnError = Annotated[str, typer.Option(metavar="fail|skip", help="What a bad sample does.")]
MostMissing = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of samples whose files may be missing; 0, or 0.1 with --on-error skip."),
]
Copy = Annotated[bool, typer.Option("--copy", help="Copy all payload into the index instead of referring to it.")]
Fps = Annotated[float, typer.Option(help="Frames of a video file that are seen a second.")]
MaxFrames = Annotated[int, typer.Option(min=1, help="Most frames of a video file that are seen.")]
Timestamps = Annotated[
    Literal["none", "qwen3-vl"] | None,
    typer.Option(help="Times as text before frames of a video file; as the tokenizer's folder says."),
]
