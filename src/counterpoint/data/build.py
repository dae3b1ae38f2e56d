"""From declared datasets to sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.sources.prepared.index import TOKENIZER_NAME
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import Source
from counterpoint.sources.synthetic.source import SyntheticRecipe, SyntheticSource


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """One split of a prepared folder."""

    path: Path
    split: str


def build_sources(
    datasets: Sequence[PreparedSplit | SyntheticRecipe],
    intakes: Intakes,
    sequence_tokens: int,
    vocabulary: int,
    tokenizer_digest: str | None,
    mtp_depths: int = 0,
) -> tuple[Source, ...]:
    """Open datasets in their order, which numbers them; `intakes` are of the modules that take items.

    `mtp_depths` further tokens are predicted.

    Raises DataError if a dataset cannot be read, its items stand at no module's mark, or its tokens come from
    another tokenizer than `tokenizer_digest` (a sha256; None accepts any).
    """
    return tuple(
        SyntheticSource(dataset, number, intakes, sequence_tokens, vocabulary, mtp_depths)
        if isinstance(dataset, SyntheticRecipe)
        else _prepared(dataset, number, intakes, sequence_tokens, vocabulary, tokenizer_digest, mtp_depths)
        for number, dataset in enumerate(datasets)
    )


def _prepared(
    dataset: PreparedSplit,
    number: int,
    intakes: Intakes,
    sequence_tokens: int,
    vocabulary: int,
    digest: str | None,
    mtp_depths: int,
) -> Source:
    source = PreparedSource(dataset.path, dataset.split, number, intakes, sequence_tokens, mtp_depths)
    if source.index.largest_id >= vocabulary:
        raise DataError(
            f"dataset {dataset.path}: holds token {source.index.largest_id}, but the model's vocab is {vocabulary}; "
            f"set modules.*.model.vocab to at least {source.index.largest_id + 1}, or to tokenizer"
        )
    made_by = source.index.manifest.tokenizer_sha256
    if digest is not None and made_by != digest:
        raise DataError(
            f"dataset {dataset.path}: its tokens were made by another tokenizer (sha256 {made_by[:12]}) than "
            f"data.tokenizer (sha256 {digest[:12]}); point data.tokenizer at "
            f"{source.index.folder / TOKENIZER_NAME}."
        )
    return source
