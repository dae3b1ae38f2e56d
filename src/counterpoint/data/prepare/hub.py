"""Datasets of the Hugging Face hub, fetched into its cache."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from counterpoint.data.text.shown import show
from counterpoint.errors import DataError

SCHEME = "hf://"
_NAME = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fetch(source: str, subsets: Sequence[str] = ()) -> Path:
    """The folder of `hf://datasets/OWNER/NAME` or `...@REVISION`, of which only some subsets are fetched if they are
    named; raises DataError if it cannot be fetched."""
    match = _NAME.fullmatch(source)
    if match is None:
        raise DataError(f"prepare: source {show(source)} is no dataset of the hub, expected hf://datasets/OWNER/NAME.")
    name, revision = match["name"], match["revision"]
    remedy = (
        f"fetch it where there is a network, hf download --repo-type dataset {name} --local-dir {name.split('/')[1]}, "
        "and prepare that folder."
    )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise DataError(
            f"{source}: needs the package huggingface_hub, which is not installed; pip install 'counterpoint[hub]', or "
            f"{remedy}"
        ) from None
    folders = [glob.escape(subset) for subset in subsets]
    patterns = [f"{folder}/*" for folder in [*folders, *(f"data/{folder}" for folder in folders)]] or None
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:  # The library lets those of its HTTP client pass, of which there are many kinds.
        raise DataError(f"{source}: cannot be fetched ({show(str(error))}); {remedy}") from None
