"""From a config to its warm starts, and what can be wrong with them, found before any rank exists."""

from collections import Counter
from pathlib import Path

from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.errors import DataError
from counterpoint.setup.depths import check_depths
from counterpoint.setup.plan import Models
from counterpoint.setup.warm_words import check_words
from counterpoint.sources.source import WithVideos
from counterpoint.train.state.resume import steps_to_try
from counterpoint.train.warm.start import WarmStart


def warm_starts_of(config: Config, models: Models) -> tuple[WarmStart, ...]:
    """The modules of a config that have `init_from`."""
    inits = {name: module.init_from for name, module in config.modules.items()}
    return tuple(WarmStart(name, models[name], init) for name, init in inits.items() if init is not None)


def check_warm_starts(config: Config, models: Models) -> list[str]:
    """`check_values` for a run, unless it resumes from its own checkpoint and so reads nothing else."""
    return [] if steps_to_try(Path(config.run.dir), config.checkpoint) else check_values(config, models)


def check_films(config: Config, models: Models, corpus: Corpus) -> None:
    """Raise DataError for videos that would enter a module whose start has patches of its own for them: these are not
    loaded, and the patches of pictures were not trained on videos."""
    if steps_to_try(Path(config.run.dir), config.checkpoint):
        return
    videos: Counter[str] = Counter()
    for source in (*corpus.sources, *(source for split in corpus.evaluation for source in split.sources)):
        if isinstance(source, WithVideos):
            videos.update(source.videos)
    for start in (start for start in warm_starts_of(config, models) if videos[start.module]):
        films = start.open()[0].films
        if films is not None:
            raise DataError(
                f"{start.where}: {start.init.path} reads videos with {films}, which is not loaded, but the data has "
                f"{videos[start.module]} videos for module {start.module}; leave them out, give frames as images, or "
                "start from a tower that reads videos as it reads images."
            )


def check_values(config: Config, models: Models) -> list[str]:
    """What is to be said of the values that modules begin with.

    Raises CheckpointError or ConfigError unless every `init_from` gives all values of its module and no others, of the
    words that the run's tokenizer has.
    """
    lines = [line for start in warm_starts_of(config, models) for line in start.open()[0].lines]
    check_depths(config)
    check_words(config)
    return lines
